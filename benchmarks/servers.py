"""Starts servers for benchmarks, and lets only the one that is measured run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_S = 180


@dataclass(frozen=True)
class Server:
    """A server process that is stopped (SIGSTOP) but while it is measured."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @contextmanager
    def awake(self) -> Iterator[int]:
        """Let it run, and give its port."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield self.port
        finally:
            os.killpg(self.process.pid, signal.SIGSTOP)


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    port: int,
    *,
    ready: str = "/readyz",
    environment: Mapping[str, str] = {},
) -> Iterator[Server]:
    """A server, ready and then stopped until it is measured."""
    process = subprocess.Popen(
        command, env=os.environ | dict(environment), start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process)
        os.killpg(process.pid, signal.SIGSTOP)
        yield Server(name, process, port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ours(spec: str, folder: Path, **settings: str) -> tuple[list[str], int, dict[str, str]]:
    """Command, port and environment of the service."""
    port = free_port()
    environment = {
        "MCM_ENCODER": spec,
        "MCM_PORT": str(port),
        "MCM_DATABASE_URL": f"sqlite:///{folder / 'bench.db'}",
        "MCM_LOG_LEVEL": "warning",
    }
    return [sys.executable, "-m", "app"], port, environment | settings


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(url)
