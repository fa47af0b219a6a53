"""Named detectors, ready to judge: the store, a bounded cache, and the encoder for what is missing."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio.to_thread
from cachetools import LRUCache

from app.advisor import Advisor
from app.encodings import Encoding, Encodings
from app.engine import Engine
from app.settings import Settings
from app.store import (
    DetectorNotFound,
    NameTaken,
    Replaced,
    RevisionMismatch,
    Store,
    StoredDetector,
    StoredSummary,
    StoreUnavailable,
    TooManyDetectors,
)
from mcm.advice import Advice
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
from mcm.detector import Detector

T = TypeVar("T")
BYTES_OF_A_WORD = 80  # measured: a short text of Python and its place
WRITERS = 8  # at once; each takes a thread, and a locked store must leave threads for scoring
UNREACHABLE = Advice(
    "store-unreachable",
    "the detector store cannot be reached; this answer comes from memory, and its threshold may be old",
)


@dataclass(frozen=True, eq=False)
class NamedDetector:
    """A stored detector with its embeddings in place, and what the caller should know of it."""

    stored: StoredDetector
    detector: Detector
    warnings: tuple[Advice, ...] = ()


@dataclass(frozen=True)
class _Encoding:
    """Embeddings that are being computed, and the detectors that they are for."""

    task: asyncio.Task[Encoding]
    names: set[str]


class Catalog:
    """Named detectors under the encoder that runs.

    A detector's state is asked of the store at every use, so that a change made anywhere is seen at the
    next request. Concept embeddings that are missing (another encoder made the detector) are computed
    once, in a task of their own that outlives the request that started it.
    """

    def __init__(self, store: Store, encodings: Encodings, engine: Engine, settings: Settings) -> None:
        self.advisor = Advisor(engine)
        self.encodings = encodings
        self._store = store
        self._encoder = encodings.encoder
        self._settings = settings
        self._cache: LRUCache[str, NamedDetector] = LRUCache(settings.matrix_cache_bytes, getsizeof=_bytes)
        self._encoding: dict[Definition, _Encoding] = {}
        self._writers = asyncio.Semaphore(WRITERS)
        self._last_contact = time.monotonic()
        self.cache_hits = self.cache_misses = self.store_failures = 0

    @property
    def cache_bytes(self) -> int:
        """Memory that the loaded detectors take."""
        return int(self._cache.currsize)

    async def get(self, name: str) -> NamedDetector:
        """The detector called `name`, as the store has it now.

        Raises:
            DetectorNotFound: there is none.
            StoreUnavailable: the store cannot be asked, and memory is missing or too old to use.
        """
        return (await self.get_all([name]))[0]

    async def get_all(self, names: Sequence[str]) -> list[NamedDetector]:
        """The detectors of these names, in order; the store is asked once for all. Raises as `get`."""
        try:
            revisions = await self._ask(partial(self._store.revisions, names))
        except StoreUnavailable:
            return [self._from_memory(name) for name in names]
        return [await self._current(name, revisions.get(name)) for name in names]

    async def _current(self, name: str, revision: int | None) -> NamedDetector:
        cached = self._cache.get(name)
        if cached is None or cached.stored.revision != revision:
            self.cache_misses += 1
            return await self._load(name)
        self.cache_hits += 1
        return cached

    async def revision(self, name: str) -> int | None:
        """The detector's revision, None if there is no such detector."""
        return await self._ask(partial(self._store.revision, name))

    async def page(self, limit: int, after: str | None) -> tuple[list[StoredSummary], str | None]:
        """Detectors in the order of their names; see `Store.page`."""
        return await self._ask(partial(self._store.page, limit, after))

    async def stored(self, name: str) -> StoredDetector:
        """What the store has of `name`, without computing embeddings.

        Raises:
            DetectorNotFound: there is none.
        """
        stored = await self._ask(partial(self._store.load, name, self._encoder.fingerprint))
        if stored is None:
            self._cache.pop(name, None)
            raise DetectorNotFound(name)
        return stored

    async def create(self, name: str, definition: Definition) -> StoredDetector:
        """A new detector.

        Raises:
            NameTaken, TooManyDetectors: before any work, where that can be seen.
        """
        if await self.revision(name) is not None:
            raise NameTaken(name)
        await self._check_room()
        made = await self.encodings.make(definition)
        create = partial(self._store.create, max_detectors=self._settings.max_detectors)
        await self.advisor.advice(definition)  # while it may still fail: see `_remember`
        put = partial(create, name, definition, self._encoder.fingerprint, made.matrix)
        stored = await self._write(partial(put, negatives=made.negatives))
        self._remember(stored)
        return stored

    async def replace(
        self,
        name: str,
        definition: Definition,
        *,
        if_match: int | None,
        calibration: Calibration | None = None,
        encoding: Encoding | None = None,
    ) -> Replaced:
        """Make `name` a detector of this definition, new or not, and of this calibration if one is given.

        `encoding` is what this encoder made of the definition, where that is known.

        Raises:
            RevisionMismatch, TooManyDetectors: before any work, where that can be seen.
        """
        current = await self._ask(partial(self._store.load, name, self._encoder.fingerprint))
        revision = None if current is None else current.revision
        if if_match is not None and if_match != revision:
            raise RevisionMismatch(name, expected=if_match, current=revision)
        if current is None:
            await self._check_room()
        kept = encoding_of(current) if current is not None and current.definition == definition else None
        made = kept or encoding or await self.encodings.make(definition)
        await self.advisor.advice(definition)  # while it may still fail: see `_remember`
        replace = partial(self._store.replace, if_match=if_match, max_detectors=self._settings.max_detectors)
        replaced = await self._write(
            partial(
                replace,
                name,
                definition,
                self._encoder.fingerprint,
                made.matrix,
                negatives=made.negatives,
                calibration=calibration,
            )
        )
        self._remember(replaced.stored)
        return replaced

    async def update_calibration(
        self, name: str, change: Callable[[StoredDetector], Calibration], *, if_match: int | None
    ) -> StoredDetector:
        """Change a detector's calibration under the encoder that runs; see `Store.update_calibration`."""
        update = partial(self._store.update_calibration, if_match=if_match)
        stored = await self._write(partial(update, name, self._encoder.fingerprint, change))
        self._remember(stored)
        return stored

    async def set_calibration(
        self,
        name: str,
        definition_hash: str,
        change: Callable[[Calibration], Calibration],
        *,
        if_match: int | None,
    ) -> StoredDetector:
        """Replace a detector's calibration under the encoder that runs; see `Store.set_calibration`."""
        put = partial(self._store.set_calibration, name, self._encoder.fingerprint, definition_hash)
        stored = await self._write(partial(put, change, if_match=if_match))
        self._remember(stored)
        return stored

    async def delete(self, name: str, *, if_match: int | None) -> None:
        """Delete a detector; see `Store.delete`."""
        await self._write(partial(self._store.delete, name, if_match=if_match))
        self._cache.pop(name, None)

    async def advice(self, stored: StoredDetector) -> tuple[Advice, ...]:
        """What a caller should know of a stored detector."""
        return (*await self.advisor.advice(stored.definition), *calibration_warnings(stored))

    async def _load(self, name: str) -> NamedDetector:
        stored = await self.stored(name)
        encoding = encoding_of(stored) or await self._encode_missing(stored)
        return self._keep(stored, encoding, await self.advisor.advice(stored.definition))

    def _remember(self, stored: StoredDetector) -> None:
        """Hold what was just written, so that no older state of it is used when the store goes away.

        It asks nobody: the write is done, and nothing may turn its answer into an error now.
        """
        advice = self.advisor.known(stored.definition)
        encoding = encoding_of(stored)
        if encoding is None or advice is None:
            self._cache.pop(stored.name, None)
        else:
            self._keep(stored, encoding, advice)

    def _keep(self, stored: StoredDetector, encoding: Encoding, advice: tuple[Advice, ...]) -> NamedDetector:
        detector = Detector(
            stored.definition,
            self._encoder.fingerprint,
            encoding.matrix,
            stored.calibration,
            encoding.negatives,
        )
        named = NamedDetector(stored, detector, (*advice, *calibration_warnings(stored)))
        self._cache.pop(stored.name, None)
        if _bytes(named) <= self._cache.maxsize:
            self._cache[stored.name] = named
        return named

    async def _encode_missing(self, stored: StoredDetector) -> Encoding:
        """Concept embeddings that another encoder's detector lacks here: one task for all who ask."""
        encoding = self._encoding.get(stored.definition)
        if encoding is None:
            names: set[str] = set()
            encoding = _Encoding(asyncio.create_task(self._encode_and_keep(stored.definition, names)), names)
            encoding.task.add_done_callback(_seen)
            self._encoding[stored.definition] = encoding
        encoding.names.add(stored.name)
        return await asyncio.shield(encoding.task)

    async def _encode_and_keep(self, definition: Definition, names: set[str]) -> Encoding:
        try:
            made = await self.encodings.make(definition)
            while names:  # more may come while one is written
                keep = partial(self._store.add_encoding, names.pop(), definition)
                put = partial(keep, self._encoder.fingerprint, made.matrix, negatives=made.negatives)
                await self._write(put)
            return made
        finally:
            del self._encoding[definition]

    async def _check_room(self) -> None:
        if await self._ask(self._store.count) >= self._settings.max_detectors:
            raise TooManyDetectors(self._settings.max_detectors)

    async def _write(self, change: Callable[[], T]) -> T:
        """Ask for a change. Writers wait here, and in a few threads only while the store is locked."""
        await self._writers.acquire()
        task = asyncio.ensure_future(self._ask(change))
        task.add_done_callback(lambda _: self._writers.release())
        return await asyncio.shield(task)  # who leaves does not end the thread, so its place stays taken

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            answer = await anyio.to_thread.run_sync(question)
        except StoreUnavailable:
            self.store_failures += 1
            raise
        self._last_contact = time.monotonic()
        return answer

    def _from_memory(self, name: str) -> NamedDetector:
        age = time.monotonic() - self._last_contact
        cached = self._cache.get(name)
        if cached is None or (not self._settings.on_sqlite and age > self._settings.store_grace_s):
            raise StoreUnavailable("the detector store cannot be reached; try again soon")
        return NamedDetector(cached.stored, cached.detector, (*cached.warnings, UNREACHABLE))


def calibration_warnings(stored: StoredDetector) -> tuple[Advice, ...]:
    """Says so when a calibration exists that this encoder may not use."""
    if stored.calibration is UNCALIBRATED and stored.calibrated_elsewhere:
        return (
            Advice(
                "calibrated-under-another-encoder",
                "this detector was calibrated under another encoder; here it has no threshold until it is "
                "calibrated again",
            ),
        )
    return ()


def encoding_of(stored: StoredDetector) -> Encoding | None:
    """What the store keeps of this encoder's embeddings, if it keeps any."""
    return None if stored.matrix is None else Encoding(stored.matrix, stored.negatives)


def _seen(task: asyncio.Task[Encoding]) -> None:
    if not task.cancelled():
        task.exception()  # seen here, in case everybody who waited has left


def _bytes(named: NamedDetector) -> int:
    scores = named.detector.calibration.scores.nbytes
    if named.detector.calibration.groups is not None:
        scores *= 4  # their pools, and the place of a concept's name for each
    negatives = named.detector.negatives
    words = 0 if negatives is None else negatives.matrix.nbytes + BYTES_OF_A_WORD * len(negatives.words)
    return int(named.detector.matrix.nbytes + scores + words) + 1024
