"""What the decode pool does: image files into pixels, and the count of tokens in texts."""

import logging
import time
from functools import partial

from app.engine.calls import Inbox, Job, Lane
from app.engine.stats import Stats
from app.engine.worker import Deliver, Handler
from mcm.encoders import Encoder, Pixels
from mcm.errors import EncoderError, McmError
from mcm.images import ImageLimits
from mcm.pipeline import prepare_image

_log = logging.getLogger(__name__)


class Decoding:
    """Handlers of the decode pool. Images that could be decoded move on to the model's inbox."""

    def __init__(
        self, encoder: Encoder, limits: ImageLimits, model: Inbox, deliver: Deliver, stats: Stats
    ) -> None:
        self._encoder, self._limits, self._model = encoder, limits, model
        self._deliver, self._stats = deliver, stats
        self.handlers: dict[Lane, Handler] = {
            Lane.IMAGES: partial(self._images, Lane.IMAGES),
            Lane.PATCHES: partial(self._images, Lane.PATCHES),
            Lane.TEXTS: self._texts,
        }

    def _images(self, lane: Lane, jobs: list[Job]) -> None:
        for job in jobs:
            waited_s = time.monotonic() - job.queued_at
            try:
                pixels = self._pixels(job)
            except McmError as error:
                self._stats.add(undecodable=1)
                self._deliver([(job, error)])
                continue
            self._stats.add(decoded=1)
            if not self._model.put(lane, job.call, [Job(job.call, job.place, pixels, waited_s)]):
                self._stats.add(dropped=1)

    def _pixels(self, job: Job) -> Pixels:
        started = time.monotonic()
        try:
            return prepare_image(job.work, self._encoder, self._limits)
        finally:
            seconds = time.monotonic() - started
            self._stats.decode_s.add([seconds])
            job.call.timings.add(decode_s=seconds)

    def _texts(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                self._deliver([(job, self._encoder.truncated(job.work))])
            except Exception:
                _log.exception("the encoder failed to count tokens")
                self._deliver([(job, EncoderError("the encoder failed to count the tokens of a text"))])
