"""A small deterministic encoder that knows colours, for tests of everything around an encoder."""

import hashlib
import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mcm.embeddings import Vectors, unit_rows
from mcm.encoders import Pixels
from mcm.errors import EncoderError

COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "white": (1, 1, 1),
    "black": (0, 0, 0),
}
POISON = (255, 0, 255)
SIDE = 8


class ColourEncoder:
    """Embeds an image by its mean colour and a text by the colour word in it; other texts by their hash.

    A plain magenta image is poison: any batch that holds one makes the forward raise. `gate`, when
    cleared, holds the forward until it is set. `batches` and `texts` record what was asked for.
    """

    name = "colours"
    dim = 16
    device = "cpu"
    dtype = "float32"
    activation = "none"
    image_size = SIDE
    max_text_tokens = 20
    note = "A fake for tests; it knows colours only."

    def __init__(self, fingerprint: str = "colours-1") -> None:
        self.fingerprint = fingerprint
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.texts: list[str] = []

    def prepare(self, image: Image.Image) -> Pixels:
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.uint8).transpose(2, 0, 1).copy()

    def encode_images(self, pixels: Pixels) -> Vectors:
        self.batches.append(len(pixels))
        self.entered.set()
        self.gate.wait()
        colours = pixels.reshape(len(pixels), 3, -1)
        if (colours == np.array(POISON, dtype=np.uint8)[:, None]).all(axis=(1, 2)).any():
            raise EncoderError("the forward pass failed: poison")
        return unit_rows([_embed(colour) for colour in colours.mean(axis=2) / 255])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self.texts.extend(texts)
        return unit_rows(np.reshape([self._text(text) for text in texts], (-1, self.dim)))

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(text.split()) > self.max_text_tokens for text in texts]

    def warmup(self) -> None:
        pass

    def _text(self, text: str) -> np.ndarray:
        for word in text.lower().replace(",", " ").split():
            if word in COLOURS:
                return _embed(np.array(COLOURS[word], dtype=np.float64))
        seed = int.from_bytes(hashlib.sha256(f"{self.fingerprint}{text}".encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self.dim)


def _embed(colour: np.ndarray) -> np.ndarray:
    r, g, b = (float(c) * 2 - 1 for c in colour)
    return np.array([r, g, b, r * g, g * b, r * b, r * g * b, 0.5] + [0.0] * 8)
