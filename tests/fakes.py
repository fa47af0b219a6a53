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
        return self._embed_images(pixels)

    def _embed_images(self, pixels: Pixels) -> Vectors:
        self.entered.set()
        self.gate.wait()
        colours = pixels.reshape(-1, 3, SIDE * SIDE)
        if (colours == np.array(POISON, dtype=np.uint8)[:, None]).all(axis=(1, 2)).any():
            raise EncoderError("the forward pass failed: poison")
        return self._rows(colours.mean(axis=2) / 255)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self.texts.extend(texts)
        return unit_rows(np.reshape([self._text(text) for text in texts], (-1, self.dim)))

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(text.split()) > self.max_text_tokens for text in texts]

    def warmup(self) -> None:
        pass

    def _rows(self, colours: np.ndarray) -> Vectors:
        return unit_rows(np.reshape([_embed(colour) for colour in colours], (-1, self.dim)))

    def _text(self, text: str) -> np.ndarray:
        for word in text.lower().replace(",", " ").split():
            if word in COLOURS:
                return _embed(np.array(COLOURS[word], dtype=np.float64))
        seed = int.from_bytes(hashlib.sha256(f"{self.fingerprint}{text}".encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self.dim)


class PatchColourEncoder(ColourEncoder):
    """Says what the quarters of an image show, too; `patch_batches` records what was asked for."""

    def __init__(self, fingerprint: str = "colours-1") -> None:
        super().__init__(fingerprint)
        self.patch_batches: list[int] = []

    def patch_grid(self) -> tuple[int, int]:
        return 2, 2

    def encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        self.patch_batches.append(len(pixels))
        embeddings = self._embed_images(pixels)
        half = SIDE // 2
        quarters = pixels.reshape(-1, 3, 2, half, 2, half).mean(axis=(3, 5)).transpose(0, 2, 3, 1) / 255
        return embeddings, self._rows(quarters.reshape(-1, 3)).reshape(-1, 2, 2, self.dim)


def _embed(colour: np.ndarray) -> np.ndarray:
    r, g, b = (float(c) * 2 - 1 for c in colour)
    return np.array([r, g, b, r * g, g * b, r * b, r * g * b, 0.5] + [0.0] * 8)
