"""What the decode pool does: image files into pixels, and the count of tokens in texts."""

import logging

import numpy as np

from app.engine.calls import Inbox, Job, Lane
from app.engine.stats import Stats
from app.engine.worker import Deliver, Handler
from mcm.encoders import Encoder, Pixels
from mcm.errors import BrokenImage, EncoderError, ImageError
from mcm.images import ImageLimits, load_image

_log = logging.getLogger(__name__)


class Decoding:
    """Handlers of the decode pool. Images that could be decoded move on to the model's inbox."""

    def __init__(
        self, encoder: Encoder, limits: ImageLimits, model: Inbox, deliver: Deliver, stats: Stats
    ) -> None:
        self._encoder, self._limits, self._model = encoder, limits, model
        self._deliver, self._stats = deliver, stats
        self.handlers: dict[Lane, Handler] = {Lane.IMAGES: self._images, Lane.TEXTS: self._texts}

    def _images(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                pixels = prepare(job.work, self._encoder, self._limits)
            except ImageError as error:
                self._stats.add(undecodable=1)
                self._deliver([(job, error)])
                continue
            self._stats.add(decoded=1)
            if not self._model.put(Lane.IMAGES, job.call, [Job(job.call, job.place, pixels)]):
                self._stats.add(dropped=1)

    def _texts(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                self._deliver([(job, self._encoder.truncated(job.work))])
            except Exception:
                _log.exception("the encoder failed to count tokens")
                self._deliver([(job, EncoderError("the encoder failed to count the tokens of a text"))])


def prepare(data: bytes, encoder: Encoder, limits: ImageLimits) -> Pixels:
    """An image file as the pixels (3, h, w) uint8 that the encoder takes.

    Raises:
        ImageError: the file is no image that can be used.
    """
    try:
        pixels = encoder.prepare(load_image(data, limits))
    except ImageError:
        raise
    except Exception as error:  # of the encoder's own transform, or of a decoder
        _log.exception("an image could not be prepared")
        raise BrokenImage("the image cannot be prepared for the encoder; try another copy or size") from error
    side = encoder.image_size
    if pixels.shape != (3, side, side) or pixels.dtype != np.uint8:  # it would fail the batch that it joins
        _log.error("the encoder prepared %s pixels of %s", pixels.shape, pixels.dtype)
        raise BrokenImage("the image cannot be prepared for the encoder; try another copy or size")
    return pixels
