"""Threads that take jobs from an inbox until it is closed, and outlive what goes wrong with a job."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from app.engine.calls import Inbox, Job, Lane
from app.engine.errors import EngineFailed

Answer = tuple[Job, Any]
Deliver = Callable[[Sequence[Answer]], None]
Handler = Callable[[list[Job]], None]

_log = logging.getLogger(__name__)


class Workers:
    """`threads` threads; each turn hands up to `most` jobs of one lane to that lane's handler.

    Handlers answer their jobs themselves, through `deliver`. A handler that raises has a bug: its jobs
    end with `EngineFailed` and the thread goes on. If not even that works the thread dies and says so
    through `died`.
    """

    def __init__(
        self,
        name: str,
        inbox: Inbox,
        handlers: dict[Lane, Handler],
        deliver: Deliver,
        died: Callable[[], None],
        *,
        threads: int = 1,
        most: int = 1,
    ) -> None:
        self._inbox, self._handlers, self._most = inbox, handlers, most
        self._deliver, self._died = deliver, died
        self._names = [f"{name}-{i}" for i in range(threads)]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        # Daemons, so that a forward or a decode that never returns cannot keep the process from ending.
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for name in self._names]
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end, after the inbox was closed, for `timeout_s` at most."""
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether every thread is there."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException:  # whatever it is, it must not vanish with the thread
            _log.exception("the engine's thread %s died", threading.current_thread().name)
            self._died()

    def _turn(self) -> bool:
        """One batch; False at the end."""
        jobs: list[Job] = []
        try:
            taken = self._inbox.take(self._most)
            if taken is None:
                return False
            lane, jobs = taken
            self._handlers[lane](jobs)
        except BaseException:  # also SystemExit or a panic of foreign code: a job must not end the thread
            _log.exception("a bug in the engine")
            # Nobody knows which jobs a failed `take` had in hand, and it would fail on them again.
            lost = jobs or self._inbox.drain()
            self._deliver([(job, EngineFailed()) for job in lost])
        return True
