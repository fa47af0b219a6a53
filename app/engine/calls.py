"""A caller's work inside the engine, and the inboxes in which it waits."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from app.engine.fair_queue import FairQueue
from app.engine.timings import Timings
from mcm.embeddings import Vectors
from mcm.errors import McmError

R = TypeVar("R")
Reduce = Callable[[Vectors, Vectors], Any]  # of an embedding (d,) and patches (rows, columns, d)


class Lane(Enum):
    """Kinds of work; only work of one kind shares a batch."""

    WARMUP = "warmup"
    IMAGES = "images"
    PATCHES = "patches"  # images, with what their patches show
    TEXTS = "texts"


class Call(Generic[R]):
    """`size` places, each to be filled with a result or an error; `done` when all are.

    With `whole`, the first error is the answer to the whole call. `reduce` makes of an image's patches what
    is kept of them. Used on the event loop only, but for `gone`, which tells every thread that nobody waits
    any more, `timings`, and `reduce` and `waited`, which are the model thread's.
    """

    def __init__(
        self,
        size: int,
        *,
        whole: bool = False,
        timings: Timings | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        self.done: asyncio.Future[list[R | McmError]] = asyncio.get_running_loop().create_future()
        self.gone = False
        self.timings = timings or Timings()
        self.reduce = reduce
        self._waits = True
        self._whole = whole
        self._outcomes: dict[int, R | McmError] = {}
        self._size = size

    def settle(self, place: int, outcome: R | McmError) -> None:
        """Fill a place; the first outcome of a place counts."""
        if self.done.done():
            return
        if self._whole and isinstance(outcome, McmError):
            self.done.set_exception(outcome)
            return
        self._outcomes.setdefault(place, outcome)
        if len(self._outcomes) == self._size:
            self.done.set_result([self._outcomes[i] for i in range(self._size)])

    def waited(self, seconds: float) -> None:
        """A job reaches the model after `seconds` of waiting; what the first one says counts."""
        if self._waits:
            self._waits = False
            self.timings.add(queue_s=seconds)

    def fail(self, error: McmError) -> None:
        """End the call with one error, unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Job:
    """One place of a call and what is to be worked on: bytes, pixels, a text or texts.

    `waited_s`: seconds spent in inboxes before this one.
    """

    call: Call[Any]
    place: int
    work: Any
    waited_s: float = 0.0
    queued_at: float = field(default_factory=time.monotonic)


class Inbox:
    """Jobs that wait for a thread: lanes take turns, and within a lane calls do. Thread-safe."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._lanes: dict[Lane, FairQueue[Call[Any], Job]] = {lane: FairQueue() for lane in Lane}
        self._closed = False

    def put(self, lane: Lane, call: Call[Any], jobs: Sequence[Job]) -> bool:
        """Add jobs of one call; False, and nothing is added, if nobody waits for them any more."""
        with self._ready:
            if self._closed or call.gone:
                return False
            self._lanes[lane].put(call, jobs)
            self._ready.notify(len(jobs))
            return True

    def take(self, most: int) -> tuple[Lane, list[Job]] | None:
        """Wait for jobs and take up to `most` of the lane whose turn it is; None once closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._closed or any(self._lanes.values()))
            if self._closed:
                return None
            lane = next(lane for lane, queue in self._lanes.items() if queue)
            queue = self._lanes[lane]
            jobs = queue.take(most)
            self._lanes[lane] = self._lanes.pop(lane)  # to the back of the line
            return lane, jobs

    def discard(self, call: Call[Any]) -> int:
        """Remove the jobs of a call; how many they were."""
        with self._ready:
            return sum(queue.discard(call) for queue in self._lanes.values())

    def waiting(self, lane: Lane) -> int:
        """How many jobs of a lane wait."""
        with self._ready:
            return len(self._lanes[lane])

    def drain(self) -> list[Job]:
        """Remove and give everything."""
        with self._ready:
            return [job for queue in self._lanes.values() for job in queue.drain()]

    def close(self) -> None:
        """Let `take` give None for ever, to every thread."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
