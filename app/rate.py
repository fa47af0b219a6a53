"""How many requests a caller may send."""

import ipaddress
import time
from collections.abc import Callable

from cachetools import LRUCache

MAX_CALLERS = 100_000  # so that memory is bounded; whom nobody remembers starts with a full bucket


class RateLimit:
    """A bucket of tokens for each caller: it holds `per_minute` and fills at that rate.

    So a caller may send `per_minute` requests at once, and that many in every minute after.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(MAX_CALLERS)

    def take(self, caller: str) -> float:
        """Take a token: 0.0, or the seconds until the caller's bucket holds one."""
        now = self._clock()
        left, then = self._buckets.get(caller, (self._size, now))
        tokens = min(self._size, left + (now - then) * self._per_second)
        if tokens < 1:
            return (1 - tokens) / self._per_second
        self._buckets[caller] = (tokens - 1, now)
        return 0.0


def network_of(address: str) -> str:
    """What one caller cannot change at will: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip), 64), strict=False))
