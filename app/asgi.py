"""The ASGI layers around the routes: request ids, logs, metrics, the last resort, and disconnects."""

import asyncio
import contextlib
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.answers import problem_response
from app.engine.errors import DeadlineExceeded, Draining
from app.errors import InvalidRequest
from app.gate import writes
from app.metrics import Metrics
from app.settings import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CREATING = re.compile(r"/v1/detectors(/[^/]+(/file)?)?")
LOGGED_PATH = 200  # characters; the rest of a longer one tells nothing
CLIENT_CLOSED_REQUEST = 499  # nginx's number for a caller who left; it is logged, never sent
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
log = structlog.get_logger("mcm.http")


class Observed:
    """Gives each request its id, logs and counts it, and answers 500 for what nobody foresaw."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started = scope["state"].get("parsed_at") or time.perf_counter()
        status, recorded = 0, False

        def record(status: int) -> None:
            nonlocal recorded
            if not recorded:
                recorded = True
                self._record(scope, status, time.perf_counter() - started)

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                set_headers(MutableHeaders(scope=message), scope, status)
            elif not message.get("more_body", False):
                record(status)  # now, so that whoever has the whole answer finds it counted
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_observed)
            except ClientDisconnect:
                pass
            except asyncio.CancelledError:  # the grace after SIGTERM is over
                if status == 0:
                    await problem_response(Draining(), request_id)(scope, receive, send_observed)
            except Exception as error:
                log.exception("unforeseen error", path=scope["path"][:LOGGED_PATH])
                if status == 0:
                    await problem_response(error, request_id)(scope, receive, send_observed)
            record(status or CLIENT_CLOSED_REQUEST)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.count_request(route, scope["method"], status, seconds)
        if work := scope["state"].get("work"):
            self.metrics.count_unfinished(work, status)
        level = log.debug if route in ("/healthz", "/readyz", "/metrics") else log.info
        path = scope["path"][:LOGGED_PATH]
        level("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 1))


class Deadline:
    """Ends a request that takes longer than the service, or its caller, allows."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["state"]["request_id"]
        try:
            seconds = self.seconds(scope)
        except InvalidRequest as error:
            await problem_response(error, request_id)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(seconds) as timer:

                async def send_in_time(message: Message) -> None:
                    timer.reschedule(None)  # an answer that has begun is not cut short
                    await send(message)

                await self.app(scope, receive, send_in_time)
        except TimeoutError:
            write = writes(scope["method"], scope["path"])
            hint = "it may be done all the same: look before you repeat it" if write else "send less, or wait"
            late = DeadlineExceeded(f"the request took longer than {seconds:g} seconds; {hint}")
            await problem_response(late, request_id)(scope, receive, send)

    def seconds(self, scope: Scope) -> float:
        """Time for a request: the caller's wish, X-Request-Timeout, up to the service's limit.

        Raises:
            InvalidRequest: the header is not a number of seconds above 0.
        """
        creates = scope["method"] in ("POST", "PUT") and CREATING.fullmatch(scope["path"])
        limit = self.settings.create_timeout if creates else self.settings.request_timeout
        wish = Headers(scope=scope).get("x-request-timeout")
        if wish is None:
            return limit
        try:
            seconds = float(wish)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise InvalidRequest(f"X-Request-Timeout must be a number of seconds above 0, not {wish!r}")
        return min(seconds, limit)


class CancelOnDisconnect:
    """Ends a request's work when its caller leaves, so that nothing is computed for nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body_read = asyncio.Event()

        async def receive_body() -> Message:
            if body_read.is_set():  # the caller is watched below; nobody else may take its message
                await asyncio.Event().wait()
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body_read.set()
            return message

        async def caller_left() -> None:
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        work = asyncio.ensure_future(self.app(scope, receive_body, send))
        watch = asyncio.create_task(caller_left())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = not work.done()
            for task in (watch, work):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            try:
                await work
            except asyncio.CancelledError:
                if not left:
                    raise
        if left:
            raise ClientDisconnect


def set_headers(headers: MutableHeaders, scope: Scope, status: int) -> None:
    """What every answer carries, and where the time went if there was work."""
    headers["X-Request-ID"] = scope["state"]["request_id"]
    if work := scope["state"].get("work"):
        headers["Server-Timing"] = work.server_timing()
    headers.update(SECURITY_HEADERS)
    if status >= 400 and "expect" in Headers(scope=scope):
        headers["Connection"] = "close"  # nobody knows whether a body follows a refusal


def request_id_of(headers: Headers) -> str:
    """The caller's X-Request-ID if it is well formed, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
