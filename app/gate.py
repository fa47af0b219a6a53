"""Who may call: the Host and Origin rules, and keys where they are set."""

import ipaddress
import math
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.answers import problem_response
from app.errors import Forbidden, ForbiddenHost, ForbiddenOrigin, RateLimited, RequestError, Unauthorized
from app.keys import find_key
from app.rate import RateLimit, network_of
from app.settings import Settings

OPEN = frozenset({"/healthz", "/readyz"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
READING_POSTS = ("/score", "/embed", "/concepts/check")


class Gate:
    """Refuses a request from its head, before any of its body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.rate = RateLimit(settings.rate_limit) if settings.rate_limit else None

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
        foreign = self._host(headers) or (self._origin(headers) if method not in SAFE else None)
        if foreign is not None or not self.settings.has_keys:
            return foreign or self._rate(network_of(scope["client"][0]) if scope["client"] else "unknown")
        given = given_key(headers)
        admin = find_key(given, self.settings.admin_keys)
        key = admin or find_key(given, self.settings.api_keys)
        if key is None:
            return Unauthorized("send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        if admin is None and writes(method, path):
            return Forbidden("this key may read and score; to write, use a key of MCM_ADMIN_KEYS")
        return self._rate(key.digest.hex())

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

    def _rate(self, caller: str) -> RequestError | None:
        wait_s = self.rate.take(caller) if self.rate else 0.0
        return RateLimited(self.settings.rate_limit, math.ceil(wait_s)) if wait_s else None


def writes(method: str, path: str) -> bool:
    """Whether a request changes something stored."""
    return method not in SAFE and not (method == "POST" and path.endswith(READING_POSTS))


def given_key(headers: Headers) -> bytes:
    """The key that a request shows, as the bytes that came; empty without one."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    key = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.encode("latin-1")


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
