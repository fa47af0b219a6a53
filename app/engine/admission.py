"""How much work is let in: counted before it begins, refused at once when all places are taken."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.engine.errors import LargerThanAdmission, Overloaded, Starting
from app.engine.limits import EngineLimits
from mcm.errors import McmError

LONGEST_RETRY_S = 60
RATE_MEMORY_S = 30.0  # how far back the measured rate looks
BATCHES_ALWAYS = 2  # admitted however slow the measured rate: one that runs, and one that gathers

Clock = Callable[[], float]


class Meter:
    """Counts one kind of work in hand, up to a limit, and measures how fast it is finished.

    What would wait longer than `max_wait_s` at that rate is over the limit too, but never what finds no more
    than `always` in hand.
    """

    def __init__(
        self,
        what: str,
        limit: int,
        clock: Clock = time.monotonic,
        *,
        max_wait_s: float = math.inf,
        always: int = 0,
    ) -> None:
        self.in_use = 0
        self._what, self._limit, self._clock = what, limit, clock
        self._max_wait_s, self._always = max_wait_s, always
        self._since = 0.0
        self._finished = 0.0  # both fade with RATE_MEMORY_S; their ratio is the rate
        self._busy_s = 0.0

    def check(self, n: int, held: int = 0) -> None:
        """Whether n more could be counted, for a caller who holds `held` already.

        Raises:
            LargerThanAdmission: the caller's share alone is over the limit.
            Overloaded: all together are over the limit.
        """
        if held + n > self._limit:
            raise LargerThanAdmission(self._what, held + n, self._limit)
        late = self.in_use > self._always and self._wait_s() > self._max_wait_s
        if late or self.in_use + n > self._limit:
            raise Overloaded(self._what, self.retry_after_s())

    def take(self, n: int, held: int = 0) -> None:
        """Count n more; raises as `check`."""
        self.check(n, held)
        if not self.in_use:
            self._since = self._clock()  # idle time says nothing about the rate
        self.in_use += n

    def give_back(self, n: int, *, done: bool = True) -> None:
        """Count n less; the rate is that of what was `done`."""
        self.in_use -= n
        now = self._clock()
        elapsed, self._since = now - self._since, now
        fade = math.exp(-elapsed / RATE_MEMORY_S)
        self._finished = self._finished * fade + (n if done else 0)
        self._busy_s = self._busy_s * fade + elapsed

    def retry_after_s(self) -> int:
        """Seconds until what is in hand is finished, at the measured rate; 1 to 60."""
        return min(max(math.ceil(self._wait_s()), 1), LONGEST_RETRY_S)

    def _wait_s(self) -> float:
        """How long what is in hand will take; 0 while no rate is known."""
        return self.in_use * self._busy_s / self._finished if self._finished else 0.0


class Hold:
    """Places taken by one caller, from `with` to its end; `grow` takes more."""

    def __init__(self, admission: "Admission", meter: Meter, n: int) -> None:
        self._admission, self._meter, self._n = admission, meter, n

    def __enter__(self) -> Self:
        self._admission.check()
        self._meter.take(self._n)
        return self

    def expect(self, n: int) -> None:
        """Raise as taking n more places would, and take none yet: a promise must not keep others out."""
        self._meter.check(n, held=self._n)

    def grow(self, n: int) -> None:
        """Take n more places; raises as entering did, and the places held so far stay held."""
        self._meter.take(n, held=self._n)
        self._n += n

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.give_back(self._n, done=kind is None)


class Admission:
    """The door: context managers that count images, request bytes and prompts. For the event loop only.

    Entering one raises `Starting`, `Draining` or `EngineFailed` while the door is shut, `Overloaded` when
    too many are inside, and `LargerThanAdmission` for what will never fit.
    """

    def __init__(self, limits: EngineLimits, clock: Clock = time.monotonic) -> None:
        self.refusal: Callable[[], McmError] | None = Starting
        self._images = Meter(
            "images",
            limits.max_images,
            clock,
            max_wait_s=limits.max_wait_s,
            always=BATCHES_ALWAYS * limits.max_batch,
        )
        self._bytes = Meter("bytes", limits.max_bytes, clock)
        self._prompts = Meter("prompts", limits.max_prompts, clock)

    def check(self) -> None:
        """Raise why the door is shut, if it is."""
        if self.refusal is not None:
            raise self.refusal()

    def images(self, n: int) -> Hold:
        """Hold n images."""
        return Hold(self, self._images, n)

    def bytes(self, n: int) -> Hold:
        """Hold n bytes of a request; `grow` the hold while a body of unknown length arrives."""
        return Hold(self, self._bytes, n)

    def prompts(self, n: int) -> Hold:
        """Hold n texts."""
        return Hold(self, self._prompts, n)

    @property
    def images_in_use(self) -> int:
        """Images admitted and not yet answered."""
        return self._images.in_use

    @property
    def bytes_in_use(self) -> int:
        """Request bytes held."""
        return self._bytes.in_use

    @property
    def prompts_in_use(self) -> int:
        """Texts admitted and not yet answered."""
        return self._prompts.in_use
