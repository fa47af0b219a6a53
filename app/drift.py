"""Watches the scores of calibrated detectors for drift: takes them in passing, and keeps counts in the store.

What is observed waits in memory, as bins and not as scores, until it is put behind all that other servers
have put into the store before, in one transaction: so all servers together keep one sequence, and none can
undo what another has kept. When a block comes depends on the clock, never on its scores; that keeps the
promise of `mcm.drift` true, also where a block is lost with its server.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import numpy as np
import structlog

from app.catalog import NamedDetector
from app.store import Store, StoredDrift, StoreUnavailable
from mcm.detector import Verdict
from mcm.drift import Bins, Drift, Marks, Places, advance, begin, bins_of

T = TypeVar("T")
KEEP_EVERY_S = 10.0
LAST_WRITE_S = 2.0  # at the end, where the store may be locked
MAX_WAITING = 1_000_000  # images of a detector, 3 MB; so many wait only while the store is away
log = structlog.get_logger("mcm.drift")


class Waiting:
    """Images of one detector at one revision that are not in the store yet."""

    def __init__(self, revision: int, bins: Bins) -> None:
        self.revision = revision
        self.bins = bins
        self.images = 0
        self._located: list[Places] = []
        self._rejected: list[Marks] = []

    def add(self, located: Places, rejected: Marks) -> None:
        """Take more images."""
        self.images += len(rejected)
        self._located.append(located)
        self._rejected.append(rejected)

    def followed_by(self, later: "Waiting") -> "Waiting":
        """These images, and then those."""
        both = Waiting(self.revision, self.bins)
        for part in (self, later):
            for located, rejected in zip(part._located, part._rejected, strict=True):
                both.add(located, rejected)
        return both

    def onto(self, drift: Drift | None) -> Drift:
        """The drift kept so far, and these images after it."""
        located, rejected = np.concatenate(self._located), np.concatenate(self._rejected)
        return advance(self.bins, begin(self.bins) if drift is None else drift, located, rejected)


class DriftWatch:
    """What the service has seen of each calibrated detector's traffic under the encoder that runs.

    `kept` is what the store had when it was last asked, by detector. `uncounted` are images that came while
    the store was away for too long.
    """

    def __init__(self, store: Store, fingerprint: str) -> None:
        self.kept: dict[str, StoredDrift] = {}
        self.uncounted = 0
        self._store = store
        self._fingerprint = fingerprint
        self._waiting: dict[str, Waiting] = {}
        self._lock = threading.Lock()  # requests observe in their threads
        self._thread = anyio.CapacityLimiter(1)  # of its own: a locked store takes no thread from scoring
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep what is observed, from now on."""
        self._keeping = asyncio.create_task(self._keep_for_ever())

    async def stop(self) -> None:
        """Keep what is left, unless the store cannot be asked now."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        with anyio.move_on_after(LAST_WRITE_S), suppress(StoreUnavailable):
            for name in list(self._waiting):
                await self._keep(name)

    def observe(self, named: NamedDetector, verdicts: Sequence[Verdict]) -> None:
        """Take the scores of a calibrated detector's images; from any thread, and without the store."""
        stored, calibration = named.stored, named.detector.calibration
        if calibration.scores.size == 0 or not verdicts:
            return
        scores = np.array([verdict.score for verdict in verdicts])
        rejected = np.array([verdict.is_ood is True for verdict in verdicts])
        with self._lock:
            waiting = self._waiting.get(stored.name)
            if waiting is None or waiting.revision < stored.revision:
                waiting = self._waiting[stored.name] = Waiting(stored.revision, bins_of(calibration))
            if waiting.revision > stored.revision:
                return  # the detector has changed since
            if waiting.images + len(scores) > MAX_WAITING:
                self.uncounted += len(scores)
                return
            waiting.add(waiting.bins.locate(scores), rejected)

    async def current(self, name: str) -> StoredDrift | None:
        """What is kept of a detector's images, with all that this server has seen; None before the first.

        Raises:
            StoreUnavailable: the store cannot be asked.
        """
        await self._keep(name)
        stored = await self._ask(partial(self._store.drift, name, self._fingerprint))
        if stored is None:
            self.kept.pop(name, None)
        else:
            self.kept[name] = stored
        return stored

    def forget(self, name: str) -> None:
        """A detector is deleted: show nothing of it."""
        self.kept.pop(name, None)

    async def _keep_for_ever(self) -> None:
        while True:
            try:
                for name in list(self._waiting):
                    await self._keep(name)
                self.kept = await self._ask(partial(self._store.drifts, self._fingerprint))
            except StoreUnavailable as error:
                log.warning("what was seen waits for the store", detail=str(error))
            except Exception:
                log.exception("what was seen cannot be kept")
            await asyncio.sleep(KEEP_EVERY_S)

    async def _keep(self, name: str) -> None:
        """Put what waits of a detector into the store; if that fails, it waits on.

        Who asks for it may leave meanwhile: it goes on, since what is taken must end somewhere.
        """
        task = asyncio.ensure_future(self._keep_whole(name))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if all have left
        await asyncio.shield(task)

    async def _keep_whole(self, name: str) -> None:
        with self._lock:
            taken = self._waiting.pop(name, None)
        if taken is None:
            return
        try:
            await self._ask(
                partial(self._store.advance_drift, name, self._fingerprint, taken.revision, taken.onto)
            )
        except StoreUnavailable:
            self._put_back(name, taken)
            raise

    def _put_back(self, name: str, taken: Waiting) -> None:
        with self._lock:
            since = self._waiting.get(name)
            if since is None or since.revision == taken.revision:
                self._waiting[name] = taken if since is None else taken.followed_by(since)

    async def _ask(self, question: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(question, limiter=self._thread, abandon_on_cancel=True)
