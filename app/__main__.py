"""`python -m app`: the service as a process of its own."""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

import mcm
from app.connection import KEEP_ALIVE_S, Connection
from app.gate import is_loopback
from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings
from app.store import StoreUnavailable
from mcm.encoders import Encoder

STOPPING = (signal.SIGINT, signal.SIGTERM)
log = structlog.get_logger("mcm.app")
EXAMPLE = Path("examples/cat.jpg")
# A forward is some hundred calls of torch, and behind each the model thread takes the interpreter's lock back
# from the threads that read requests; Python's 5 ms of patience would leave the processor idle meanwhile.
SWITCH_S = 20e-6


class Server(uvicorn.Server):
    """uvicorn, ending with code 0 after a clean stop instead of dying of the signal that asked for it.

    From the signal on, the `app` is told to be unready; what it has begun it may finish.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        log.info("stopping")
        self._app.state.stopping_since = time.monotonic()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in STOPPING}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def main(encoder: Encoder | None = None) -> int:
    """Serve until told to stop, with the `encoder` given or the one that the settings name.

    Returns the exit code: 0 stopped, 1 cannot start, 2 wrong settings.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        return _complain(_settings_message(error), code=2)
    if not (is_loopback(settings.host) or settings.has_keys or settings.allow_anonymous):
        return _complain(
            f"refusing to listen on {settings.host} without keys: set MCM_API_KEYS (and MCM_ADMIN_KEYS) to "
            "require keys, or MCM_ALLOW_ANONYMOUS=1 to serve everyone who can reach it",
            code=2,
        )
    configure_logging(settings)
    for sig in STOPPING:  # until the server itself listens to them
        signal.signal(sig, lambda *_: sys.exit(0))
    try:
        listener = _listen(settings)
    except OSError as error:
        return _complain(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}")
    with listener:
        print(_banner(settings, listener.getsockname()[1]), flush=True)
        return _serve(settings, listener, encoder)


def _serve(settings: Settings, listener: socket.socket, encoder: Encoder | None) -> int:
    sys.setswitchinterval(SWITCH_S)
    fatal: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        fatal.append(error)
        server.should_exit = True

    app = create_app(settings, encoder, on_fatal)
    server = Server(
        uvicorn.Config(
            app,
            http=Connection,
            timeout_keep_alive=KEEP_ALIVE_S,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.shutdown_grace_s),
        ),
        app,
    )
    server.run(sockets=[listener])
    return _complain(_reason(fatal[0])) if fatal else 0


def _allow_connections() -> None:
    """Each connection is an open file, of which many systems allow 1024 until a process asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems refuse what they themselves call the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    # Connections inherit it. asyncio would set it only on a socket whose protocol is named, and without it
    # an answer's body waits 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _banner(settings: Settings, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    image = EXAMPLE if EXAMPLE.exists() else Path("photo.jpg")
    return "\n".join(
        [
            f"mcm-ood {mcm.__version__} at {url}  (API: {url}/docs)",
            f"encoder: {_about(settings.encoder)}",
            f"try: curl -F images=@{image} -F concepts=cat -F concepts=dog {url}/v1/score",
        ]
    )


def _about(spec: str) -> str:
    if spec == "builtin":
        return (
            "builtin. It is NOT CLIP: it knows everyday objects and needs no download. "
            "For CLIP: make serve ENCODER=ViT-B-16/openai"
        )
    return spec


def _settings_message(error: ValidationError) -> str:
    found = [f"MCM_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
    return "wrong settings: " + "; ".join(found)


def _reason(error: Exception) -> str:
    """An error with what its library said: it is the operator who reads it."""
    cause = error.__cause__ if isinstance(error, StoreUnavailable) else None
    said = str(getattr(cause, "orig", cause) or "").strip().partition("\n")[0]
    return str(error) if not said or said in str(error) else f"{error} ({said})"


def _complain(message: str, code: int = 1) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def leave(code: int) -> NoReturn:
    """End the process, without threads that may never be done: a forward, a load, a locked database."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
