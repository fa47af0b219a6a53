"""`python -m tests.serve_faults`: the real service with an encoder that fails on demand, telling secrets.

What it does depends on the words of a text and the colour of an image; each failure carries MARKER.
"""

import sys
import warnings
from collections.abc import Sequence

from PIL import Image

from app.__main__ import main
from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from mcm.errors import EncoderError
from tests.fakes import SIDE, ColourEncoder

MARKER = "SECRET of /srv/somebody/model.bin\nforged line"
UNPREPARED, RAISING, TELLING, WARNING = (9, 9, 9), (8, 8, 8), (7, 7, 7), (6, 6, 6)


class FaultyEncoder(ColourEncoder):
    """Fails on demand, with library errors that say too much."""

    broken = False

    def prepare(self, image: Image.Image) -> Pixels:
        colour = image.getpixel((0, 0))
        if colour == WARNING:
            warnings.warn(MARKER, stacklevel=1)
        if colour == UNPREPARED:
            raise ValueError(MARKER)
        return super().prepare(image)

    def encode_images(self, pixels: Pixels) -> Vectors:
        colours = {tuple(image[:, 0, 0]) for image in pixels}
        if RAISING in colours:
            raise RuntimeError(MARKER)
        if TELLING in colours:
            raise EncoderError(f"the forward failed: {MARKER}") from OSError(MARKER)
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if any("raising" in text for text in texts):
            raise RuntimeError(MARKER)
        self.broken = any("a-bug" in text for text in texts)
        return super().encode_texts(texts)

    @property
    def image_size(self) -> int:  # type: ignore[override]
        """Raises once after a text has said so: a bug that nobody foresaw."""
        if self.broken:
            self.broken = False
            raise KeyError(MARKER)
        return SIDE


if __name__ == "__main__":
    sys.exit(main(FaultyEncoder()))
