"""Drives a real Chromium, and serves the pages of an attacker to it, for tests of what web pages can do."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

PATIENCE_S = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")


@dataclass
class Attacker:
    """A web server under another name: `pages` by path; a page tells what it saw by `/report?name=value`."""

    port: int
    pages: dict[str, str] = field(default_factory=dict)
    reports: dict[str, str] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def origin(self) -> str:
        """Where the browser finds it; every name leads to this machine, see `browsing`."""
        return f"http://evil.example:{self.port}"

    def wait_for(self, name: str) -> str:
        """What a page reported under `name`."""
        with self.news:
            assert self.news.wait_for(lambda: name in self.reports, PATIENCE_S), f"no report of {name}"
            return self.reports[name]


@contextmanager
def attacking() -> Iterator[Attacker]:
    """An attacker's server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/report":
                with attacker.news:
                    attacker.reports |= {k: v[0] for k, v in parse_qs(url.query).items()}
                    attacker.news.notify_all()
            body = attacker.pages.get(url.path, "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Access-Control-Allow-Origin", "*")  # so that any page can report
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    attacker = Attacker(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield attacker
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def browsing(url: str, profile: Path) -> Iterator[None]:
    """Chromium with `url` open. The name evil.example leads to this machine, as DNS rebinding makes it."""
    with subprocess.Popen(_command(profile, url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as it:
        try:
            yield
        finally:
            it.terminate()


def rendered(url: str, profile: Path) -> tuple[str, str]:
    """The page's DOM once its requests are done, and what the browser said on its console."""
    options = ("--dump-dom", "--virtual-time-budget=20000", "--enable-logging=stderr")
    done = subprocess.run(
        _command(profile, *options, url), capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if ":CONSOLE" in line)


def _command(profile: Path, *more: str) -> list[str]:
    assert CHROMIUM is not None
    return [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--no-proxy-server",
        "--host-resolver-rules=MAP evil.example 127.0.0.1", f"--user-data-dir={profile}", *more,
    ]  # fmt: skip
