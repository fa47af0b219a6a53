"""What the model thread does: one batch of one kind at a time through the encoder."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from app.engine.calls import Job, Lane
from app.engine.errors import EngineFailed
from app.engine.row_cache import RowCache
from app.engine.stats import Stats
from app.engine.worker import Deliver, Handler
from mcm.embeddings import Vectors
from mcm.encoders import Encoder, Pixels, require_patches
from mcm.errors import EncoderError, McmError
from mcm.isolation import encode_isolating, encode_patches_isolating

_log = logging.getLogger(__name__)


class Model:
    """Handlers of the model thread. `busy_s` is the heartbeat: how long the present forward has lasted."""

    def __init__(self, encoder: Encoder, cache: RowCache, deliver: Deliver, stats: Stats) -> None:
        self._encoder, self._cache, self._deliver, self._stats = encoder, cache, deliver, stats
        self._since: float | None = None
        self.handlers: dict[Lane, Handler] = {
            Lane.WARMUP: self._warmup,
            Lane.IMAGES: self._images,
            Lane.PATCHES: self._patches,
            Lane.TEXTS: self._texts,
        }

    @property
    def busy_s(self) -> float:
        """Seconds since the present forward began; 0 between two."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _warmup(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                self._encoder.warmup()
            except Exception as error:
                _log.exception("the encoder failed to warm up")
                self._deliver([(job, EncoderError(f"the encoder failed to warm up: {error}"))])
            else:
                self._deliver([(job, None)])

    def _images(self, jobs: list[Job]) -> None:
        def encode(pixels: Pixels) -> list[Any]:
            return encode_isolating(self._encode_images, pixels, self._encoder.dim)

        self._embed(Lane.IMAGES, jobs, encode)

    def _patches(self, jobs: list[Job]) -> None:
        encoder = require_patches(self._encoder)

        def encode(pixels: Pixels) -> list[Any]:
            found = encode_patches_isolating(self._encode_patches, pixels, *encoder.patch_grid(), encoder.dim)
            return [self._reduced(job, outcome) for job, outcome in zip(jobs, found, strict=True)]

        self._embed(Lane.PATCHES, jobs, encode)

    def _embed(self, lane: Lane, jobs: list[Job], encode: Callable[[Pixels], list[Any]]) -> None:
        pixels = np.stack([job.work for job in jobs])
        with self._batch(lane, jobs, len(jobs)):
            outcomes = encode(pixels)
        failed = _report(outcomes)
        self._stats.add(forwarded=len(jobs) - failed, failed=failed)
        self._deliver(list(zip(jobs, outcomes, strict=True)))

    def _reduced(self, job: Job, outcome: tuple[Vectors, Vectors] | EncoderError) -> Any:
        """An image's embedding and what its caller makes of its patches; the patches are let go."""
        if isinstance(outcome, EncoderError) or job.call.reduce is None or job.call.gone:
            return outcome
        embedding, patches = outcome
        try:
            with self._forward():
                return embedding, job.call.reduce(embedding, patches)
        except McmError as error:
            return error
        except Exception:  # of this caller only
            _log.exception("the patches of an image could not be reduced")
            return EngineFailed()

    def _texts(self, jobs: list[Job]) -> None:
        texts = list(dict.fromkeys(job.work for job in jobs))
        known = self._cache.get(texts)  # another call may have brought the same texts meanwhile
        missing = [text for text in texts if text not in known]
        with self._batch(Lane.TEXTS, jobs, len(missing)):
            outcomes = {**known, **self._encoded(missing)}
        self._deliver([(job, outcomes[job.work]) for job in jobs])

    def _encoded(self, texts: list[str]) -> dict[str, Vectors | EncoderError]:
        if not texts:
            return {}
        outcomes = encode_isolating(self._encode_texts, texts, self._encoder.dim)
        failed = _report(outcomes)
        self._stats.add(texts=len(texts) - failed)
        for text, outcome in zip(texts, outcomes, strict=True):
            if not isinstance(outcome, EncoderError):
                self._cache.put(text, outcome)
        return dict(zip(texts, outcomes, strict=True))

    def _encode_images(self, pixels: Pixels) -> Vectors:
        with self._forward():
            return self._encoder.encode_images(pixels)

    def _encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        with self._forward():
            return require_patches(self._encoder).encode_patches(pixels)

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        with self._forward():
            return self._encoder.encode_texts(texts)

    @contextmanager
    def _batch(self, lane: Lane, jobs: Sequence[Job], size: int) -> Iterator[None]:
        """Measure a batch of `size` rows: how long its jobs had waited, and how long it takes."""
        started = time.monotonic()
        waits = [job.waited_s + started - job.queued_at for job in jobs]
        self._stats.queue_s[lane].add(waits)
        for job, seconds in zip(jobs, waits, strict=True):
            job.call.waited(seconds)
        yield
        if size:
            seconds = time.monotonic() - started
            self._stats.batch_size[lane].add([size])
            self._stats.forward_s[lane].add([seconds])
            for call in {job.call for job in jobs}:
                call.timings.add(forward_s=seconds)

    @contextmanager
    def _forward(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None


def _report(outcomes: Sequence[object]) -> int:
    """Log what failed in a batch, once for all of it; how many did."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, EncoderError)]
    if errors:
        _log.error("the encoder failed on %d of %d items", len(errors), len(outcomes), exc_info=errors[0])
    return len(errors)
