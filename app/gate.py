"""Who may call: the Host and Origin rules, and keys where they are set."""

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.answers import problem_response
from app.errors import Forbidden, ForbiddenHost, ForbiddenOrigin, RequestError, Unauthorized
from app.settings import Settings

OPEN = frozenset({"/healthz", "/readyz"})
READING_POSTS = ("/score", "/embed", "/concepts/check")


class Gate:
    """Refuses a request from its head, before any of its body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        refusal = self.refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            request_id = scope["state"]["request_id"]
            await problem_response(refusal, request_id)(scope, receive, send)

    def refusal(self, scope: Scope) -> RequestError | None:
        """Why the request is refused, or None."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if path in OPEN:
            return None
        return (
            self._host(headers)
            or (self._origin(headers) if method not in ("GET", "HEAD", "OPTIONS") else None)
            or (self._key(headers, writes(method, path)) if self.settings.has_keys else None)
        )

    def _host(self, headers: Headers) -> RequestError | None:
        name = host_name(headers.get("host", ""))
        if is_loopback(name) or {name, "*"} & set(self.settings.allowed_hosts):
            return None
        return ForbiddenHost(f"the Host header names {name!r}; add it to MCM_ALLOWED_HOSTS to serve it")

    def _origin(self, headers: Headers) -> RequestError | None:
        origin = headers.get("origin")
        if origin is None or origin.lower() in own_origins(headers.get("host", "")):
            return None
        return ForbiddenOrigin(f"web pages of {origin!r} may not use this service")

    def _key(self, headers: Headers, write: bool) -> RequestError | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if _among(key, self.settings.admin_keys):
            return None
        if not _among(key, self.settings.api_keys):
            return Unauthorized("send a valid key as 'Authorization: Bearer KEY'")
        return (
            Forbidden("this key may read and score; to write, use a key of MCM_ADMIN_KEYS") if write else None
        )


def writes(method: str, path: str) -> bool:
    """Whether a request changes something stored."""
    return method not in ("GET", "HEAD", "OPTIONS") and not (
        method == "POST" and path.endswith(READING_POSTS)
    )


def own_origins(host: str) -> tuple[str, str]:
    """The origins of this service's own pages, as the Host header tells them; a proxy may add TLS."""
    return f"http://{host.lower()}", f"https://{host.lower()}"


def host_name(host: str) -> str:
    """The name in a Host header, without the port and an address's brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _among(key: str, keys: tuple[str, ...]) -> bool:
    given = key.encode("latin-1")  # the bytes that came
    matches = [hmac.compare_digest(given, known.encode()) for known in keys]  # all, whatever the first says
    return bool(key) and any(matches)
