"""Where the time of one caller's work went."""

import threading
from dataclasses import dataclass, field


@dataclass
class Timings:
    """Seconds; threads add to them while the work goes on.

    `queue_s`: how long the first item to reach the model had waited by then, for a decoder and for the
    model. `decode_s`: sum over the images. `forward_s`: all forwards that held an item of this work; other
    callers' items may have shared them.
    """

    queue_s: float = 0.0
    decode_s: float = 0.0
    forward_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, queue_s: float = 0.0, decode_s: float = 0.0, forward_s: float = 0.0) -> None:
        """Add seconds. Thread-safe."""
        with self._lock:
            self.queue_s += queue_s
            self.decode_s += decode_s
            self.forward_s += forward_s
