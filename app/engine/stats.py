"""What the engine has done, as plain counts."""

import threading
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counts since the start; every image admitted ends as `undecodable`, `forwarded`, `failed` or `dropped`.

    `dropped` counts jobs (images, texts) whose caller left, or whose engine stopped, before they were done.
    """

    decoded: int = 0
    undecodable: int = 0
    forwarded: int = 0
    failed: int = 0
    dropped: int = 0
    texts: int = 0
    cached_texts: int = 0
    image_batches: int = 0
    text_batches: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to the counts that are named. Thread-safe."""
        with self._lock:
            for name, n in counts.items():
                setattr(self, name, getattr(self, name) + n)
