"""Starts the service as a real process on a free port, for tests that talk to it over real sockets."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
COLOURS = (sys.executable, "-m", "tests.serve_colours")
SERVICE = (sys.executable, "-m", "app")
START_S = 120


@dataclass
class Server:
    """A running server process: its URL, and every line that it has printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    url: str = ""
    reader: threading.Thread | None = None

    def wait_for_url(self) -> None:
        """Wait for the line that names the address; every line after it is read in the background."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r"http://[^\s/]+:\d+", line):
                self.url = found[0]
                self.reader = threading.Thread(target=self._read)
                self.reader.start()
                return
        raise AssertionError("the server ended:\n" + "\n".join(self.lines))

    def wait_until_ready(self) -> None:
        """Wait until /readyz is 200."""
        end = time.monotonic() + START_S
        with httpx.Client(trust_env=False) as http:
            while http.get(f"{self.url}/readyz").status_code != 200:
                assert self.process.poll() is None, "\n".join(self.lines)
                assert time.monotonic() < end, "not ready in time:\n" + "\n".join(self.lines)
                time.sleep(0.05)

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Read the last lines of a process that has ended."""
        assert self.process.stdout is not None
        if self.reader is not None:
            self.reader.join()
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


def ended(folder: Path, command: Sequence[str] = COLOURS, **settings: object) -> tuple[int, list[str]]:
    """The exit code and the lines of a server that ends by itself; `settings` as for `running`."""
    environment = _environment(folder, settings)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=START_S,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


def _environment(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MCM_")}
    environment |= {"MCM_PORT": "0", "MCM_DATABASE_URL": f"sqlite:///{folder / 'mcm.db'}"}
    return environment | {f"MCM_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running(
    folder: Path, command: Sequence[str] = COLOURS, *, ready: bool = True, **settings: object
) -> Iterator[Server]:
    """A server with its database in `folder`; `settings` are MCM_ variables in lower case."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(folder, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what the command starts ends with it
    )
    server = Server(process)
    try:
        server.wait_for_url()
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        server.close()
