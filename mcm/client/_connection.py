"""How a client reaches its server, checked when the client is made."""

import ipaddress
import math
from typing import TypedDict

import httpx

from mcm import __version__
from mcm.client.errors import InvalidArgument

KEEPALIVE_S = (
    3.0  # shorter than a server's own (uvicorn: 5 s), so that no request goes into a closing connection
)


class Connection(TypedDict):
    """The arguments that httpx.Client and httpx.AsyncClient share."""

    base_url: httpx.URL
    headers: dict[str, str]
    timeout: float
    limits: httpx.Limits
    mounts: dict[str, None]


def connection(base_url: str, api_key: str | None, timeout: float) -> Connection:
    """How to reach the server.

    Raises:
        InvalidArgument: a base_url, key or timeout that cannot be used.
    """
    url = _url(base_url)
    if not (math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument(f"timeout must be a positive number of seconds, not {timeout!r}")
    headers = {"User-Agent": f"mcm-ood/{__version__}", "Accept": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {_header_safe(api_key)}"
    return Connection(
        base_url=url,
        headers=headers,
        timeout=timeout,
        limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
        mounts=_past_proxies(url.host),
    )


def require_at_least(name: str, value: int, least: int) -> int:
    """The value, if it is large enough.

    Raises:
        InvalidArgument: it is not.
    """
    if value < least:
        raise InvalidArgument(f"{name} must be at least {least}, not {value}")
    return value


def _url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidArgument(f"base_url {base_url!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArgument(f"base_url {base_url!r} must be like http://127.0.0.1:8000")
    return url


def _header_safe(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise InvalidArgument("api_key holds spaces, line ends or letters that an HTTP header cannot carry")
    return api_key


def _past_proxies(host: str) -> dict[str, None]:
    """Mounts that keep a proxy of the environment away from a server on this machine."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    if not loopback:
        return {}
    return {f"all://[{host}]" if ":" in host else f"all://{host}": None}
