"""Bytes -> RGB image, safely, within limits."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes of the file, pixels of the first frame."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000


DEFAULT_LIMITS = ImageLimits()


def load_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame of an image file as RGB, upright, without alpha."""
    raise NotImplementedError
