"""The engine: image files and texts in, embeddings out, for many callers at once.

The road: admission -> decode pool (file to pixels) -> model's inbox -> model thread (pixels to rows) ->
event loop. A call ends in one of: its outcomes, its deadline, its caller's leave, the engine's end.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from app.engine.admission import Admission
from app.engine.calls import Call, Inbox, Job, Lane, Reduce
from app.engine.decoding import Decoding
from app.engine.errors import DeadlineExceeded, Draining, EngineFailed, EngineStopped, Starting
from app.engine.limits import EngineLimits
from app.engine.model import Model
from app.engine.row_cache import RowCache
from app.engine.stats import Stats
from app.engine.timings import Timings
from app.engine.worker import Answer, Workers
from mcm.embeddings import Vectors
from mcm.encoders import Encoder, require_patches
from mcm.errors import McmError

T = TypeVar("T")
TEXTS_PER_TOKEN_COUNT = 256  # so that counting the tokens of many texts lets images be decoded meanwhile


@dataclass(frozen=True)
class Readiness:
    """Whether the engine can serve now, and why not."""

    ok: bool
    detail: str


class Engine:
    """Embeds images and texts with one encoder; see the package's docstring.

    All methods belong to the event loop on which `start` was called. A `deadline` is a moment of
    `time.monotonic()`; when it passes, `DeadlineExceeded` is raised and the rest of the work is dropped.
    The same happens to the work of a caller that is cancelled.
    """

    def __init__(self, encoder: Encoder, limits: EngineLimits | None = None) -> None:
        self.limits = limits or EngineLimits()
        self.admission = Admission(self.limits)
        self.stats = Stats()
        self._encoder = encoder
        self._cache = RowCache(self.limits.text_cache_bytes)
        self._image_cache = RowCache(self.limits.image_cache_bytes)
        self._calls: set[Call[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._decode_inbox, self._model_inbox = Inbox(), Inbox()
        self._model = Model(encoder, self._cache, self._deliver, self.stats)
        decoding = Decoding(encoder, self.limits.image, self._model_inbox, self._deliver, self.stats)
        self._decoders = Workers(
            "decode",
            self._decode_inbox,
            decoding.handlers,
            self._deliver,
            self._died,
            threads=self.limits.decode_threads,
        )
        self._thread = Workers(
            "model",
            self._model_inbox,
            self._model.handlers,
            self._deliver,
            self._died,
            most=self.limits.max_batch,
        )

    async def start(self) -> None:
        """Start the threads and warm the encoder up; ready when this returns.

        Raises:
            EncoderError: the warm-up failed.
            EngineStopped: `stop` was called meanwhile.
        """
        self._loop = asyncio.get_running_loop()
        self._decoders.start()
        self._thread.start()
        try:
            await self._answers(Call(1, whole=True), self._model_inbox, Lane.WARMUP, [None], None)
        except BaseException:
            self._close()
            raise
        if self.admission.refusal is not Starting:
            raise EngineStopped
        self.admission.refusal = None

    async def stop(self, grace_s: float) -> None:
        """Refuse new work, finish what is admitted within `grace_s` seconds, and end the threads.

        What is not finished by then ends with `EngineStopped`; a forward that is still running is left
        to end by itself.
        """
        end = time.monotonic() + grace_s
        self.admission.refusal = Draining
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        self._fail_all(EngineStopped)
        self._close()
        await asyncio.to_thread(self._join, end)

    def readiness(self) -> Readiness:
        """Whether the engine can serve now, asked of its threads; an idle engine is ready."""
        if self.admission.refusal is not None:
            return Readiness(False, str(self.admission.refusal()))
        if not (self._thread.alive and self._decoders.alive):
            return Readiness(False, "a thread of the engine has died")
        if self._model.busy_s > self.limits.stall_s:
            return Readiness(False, f"one forward has lasted longer than {self.limits.stall_s:g} s")
        return Readiness(True, "ready")

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the model thread last showed life: 0 while it is idle, infinite once it is dead."""
        return self._model.busy_s if self._thread.alive else math.inf

    def queue_lengths(self) -> dict[str, int]:
        """What waits: images to be decoded, images to be encoded, prompts to be encoded."""
        decode, model = (
            inbox.waiting(Lane.IMAGES) + inbox.waiting(Lane.PATCHES)
            for inbox in (self._decode_inbox, self._model_inbox)
        )
        return {"decode": decode, "model": model, "prompts": self._model_inbox.waiting(Lane.TEXTS)}

    @property
    def cache_bytes(self) -> dict[str, int]:
        """Memory that the embeddings of known texts and images take."""
        return {"text": self._cache.bytes_in_use, "image": self._image_cache.bytes_in_use}

    async def embed_images(
        self, blobs: Sequence[bytes], deadline: float | None = None, timings: Timings | None = None
    ) -> list[Vectors | McmError]:
        """Embed image files: for each its row (d,) float32, or an ImageError or EncoderError in its place.

        With room in the image cache, files that are known from before are neither decoded nor encoded. The
        time that it takes is added to `timings`.

        Raises:
            EngineError: nothing was embedded, see `app.engine.errors`.
        """
        if not self.limits.image_cache_bytes:
            return await self._embed_files(blobs, deadline, timings)
        keys = await asyncio.to_thread(_content_keys, blobs)
        outcomes: dict[str, Vectors | McmError] = {**self._image_cache.get(keys)}
        missing = {key: blob for key, blob in zip(keys, blobs, strict=True) if key not in outcomes}
        self.stats.add(cached_images=len(outcomes), missed_images=len(missing))
        found = await self._embed_files(list(missing.values()), deadline, timings)
        for key, outcome in zip(missing, found, strict=True):
            outcomes[key] = outcome
            if not isinstance(outcome, McmError):
                self._image_cache.put(key, outcome)
        return [outcomes[key] for key in keys]

    async def embed_with_patches(
        self,
        blobs: Sequence[bytes],
        reduce: Callable[[Vectors, Vectors], T],
        deadline: float | None = None,
        timings: Timings | None = None,
    ) -> list[tuple[Vectors, T] | McmError]:
        """As `embed_images`: each row (d,) with what `reduce` makes of it and the patches (rows, columns, d).

        One forward gives both. `reduce` is called on the model thread, image by image, so that only the
        patches of one batch are ever in memory. The image cache, which holds none, has no part in it.

        Raises:
            NoPatches: the encoder gives none.
            EngineError: as `embed_images`.
        """
        require_patches(self._encoder)
        return await self._embed_files(blobs, deadline, timings, reduce)

    async def _embed_files(
        self,
        blobs: Sequence[bytes],
        deadline: float | None,
        timings: Timings | None,
        reduce: Reduce | None = None,
    ) -> list[Any]:
        if not blobs:
            return []
        lane = Lane.IMAGES if reduce is None else Lane.PATCHES
        with self.admission.images(len(blobs)):
            call: Call[Any] = Call(len(blobs), timings=timings, reduce=reduce)
            found: list[Any] = await self._answers(call, self._decode_inbox, lane, blobs, deadline)
            return found

    async def embed_texts(
        self, texts: Sequence[str], deadline: float | None = None, timings: Timings | None = None
    ) -> Vectors:
        """Embed texts: (m, d) float32. Those that are known from before are not encoded again.

        The time that it takes is added to `timings`.

        Raises:
            EncoderError: the encoder failed on one of them.
            EngineError: see `app.engine.errors`.
        """
        distinct = list(dict.fromkeys(texts))
        rows = self._cache.get(distinct)
        missing = [text for text in distinct if text not in rows]
        self.stats.add(cached_texts=len(rows), missed_texts=len(missing))
        if missing:
            with self.admission.prompts(len(missing)):
                call: Call[Vectors] = Call(len(missing), whole=True, timings=timings)
                found = await self._answers(call, self._model_inbox, Lane.TEXTS, missing, deadline)
            rows.update(zip(missing, found, strict=True))
        if not texts:
            return np.empty((0, self._encoder.dim), dtype=np.float32)
        return np.stack([rows[text] for text in texts])

    async def truncated(self, texts: Sequence[str], deadline: float | None = None) -> list[bool]:
        """Whether the encoder ignores the end of each text.

        Raises:
            EncoderError, EngineError: as `embed_texts`.
        """
        parts = [texts[i : i + TEXTS_PER_TOKEN_COUNT] for i in range(0, len(texts), TEXTS_PER_TOKEN_COUNT)]
        if not parts:
            return []
        with self.admission.prompts(len(texts)):
            call: Call[list[bool]] = Call(len(parts), whole=True)
            flags = await self._answers(call, self._decode_inbox, Lane.TEXTS, parts, deadline)
        return [flag for part in flags for flag in part]

    async def _answers(
        self, call: Call[Any], inbox: Inbox, lane: Lane, work: Sequence[Any], deadline: float | None
    ) -> Any:
        """Send the work and wait for all its outcomes; whatever happens, leave nothing of it behind."""
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            self.stats.add(dropped=len(work))
            raise DeadlineExceeded
        self._enter(call)
        try:
            if not inbox.put(lane, call, [Job(call, place, item) for place, item in enumerate(work)]):
                raise EngineStopped
            async with asyncio.timeout(remaining_s):
                return await call.done
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._leave(call)

    def _enter(self, call: Call[Any]) -> None:
        self._calls.add(call)
        self._idle.clear()

    def _leave(self, call: Call[Any]) -> None:
        call.gone = True  # before the discards: what is on its way between the inboxes is then refused
        dropped = self._decode_inbox.discard(call) + self._model_inbox.discard(call)
        self.stats.add(dropped=dropped)
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()

    def _deliver(self, answers: Sequence[Answer]) -> None:
        """From any thread: fill the places of calls, in one hop to the event loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, answers)

    def _died(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail)

    def _fail(self) -> None:
        self.admission.refusal = EngineFailed
        self._fail_all(EngineFailed)

    def _fail_all(self, error: Callable[[], McmError]) -> None:
        for call in self._calls:
            call.fail(error())

    def _close(self) -> None:
        self._decode_inbox.close()
        self._model_inbox.close()

    def _join(self, end: float) -> None:
        for workers in (self._decoders, self._thread):
            workers.join(max(0.0, end - time.monotonic()))


def _settle(answers: Sequence[Answer]) -> None:
    for job, outcome in answers:
        job.call.settle(job.place, outcome)


def _content_keys(blobs: Sequence[bytes]) -> list[str]:
    return [hashlib.sha256(blob).hexdigest() for blob in blobs]
