"""What the engine has done, as plain counts and histograms."""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from app.engine.calls import Lane

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """How many values fell up to each bound, and beyond the last one; and their sum. Thread-safe."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, values: Iterable[float]) -> None:
        """Count some values."""
        with self._lock:
            for value in values:
                self._counts[bisect_left(self.bounds, value)] += 1
                self._sum += value

    def read(self) -> tuple[list[int], float]:
        """The count of each range, one more than there are bounds, and the sum of all values."""
        with self._lock:
            return list(self._counts), self._sum


def _by_kind(bounds: Sequence[float]) -> dict[Lane, Histogram]:
    return {lane: Histogram(bounds) for lane in (Lane.IMAGES, Lane.PATCHES, Lane.TEXTS)}


@dataclass
class Stats:
    """What was done since the start.

    Every image admitted ends as `undecodable`, `forwarded`, `failed` or `dropped`. `dropped` counts jobs
    (images, texts) whose caller left, or whose engine stopped, before they were done. Of the texts asked
    for, `cached_texts` were known and `missed_texts` were not; likewise of images, where there is a cache.
    """

    decoded: int = 0
    undecodable: int = 0
    forwarded: int = 0
    failed: int = 0
    dropped: int = 0
    texts: int = 0
    cached_texts: int = 0
    missed_texts: int = 0
    cached_images: int = 0
    missed_images: int = 0
    decode_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    queue_s: dict[Lane, Histogram] = field(default_factory=lambda: _by_kind(SECONDS))
    forward_s: dict[Lane, Histogram] = field(default_factory=lambda: _by_kind(SECONDS))
    batch_size: dict[Lane, Histogram] = field(default_factory=lambda: _by_kind(SIZES))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to the counts that are named. Thread-safe."""
        with self._lock:
            for name, n in counts.items():
                setattr(self, name, getattr(self, name) + n)
