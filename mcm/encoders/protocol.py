"""What an encoder is: texts and images into one space of embeddings."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mcm.embeddings import Vectors
from mcm.errors import NoPatches

Pixels = NDArray[np.uint8]


@runtime_checkable
class Encoder(Protocol):
    """Embeds images and texts as unit float32 rows of length `dim`.

    `fingerprint` is equal if and only if architecture, activation, weights, preprocessing and dtype
    are: embeddings of different fingerprints are never compared.
    """

    @property
    def name(self) -> str:
        """The SPEC that it was loaded from, for people."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides an embedding."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0" ..."""

    @property
    def dtype(self) -> str:
        """Type of the arithmetic: "float32", "float16" ..."""

    @property
    def activation(self) -> str:
        """The activation function of the image tower, e.g. "QuickGELU"."""

    @property
    def image_size(self) -> int:
        """Side of the square that images are prepared to, in pixels."""

    @property
    def max_text_tokens(self) -> int:
        """Longest text in tokens; what goes beyond is cut."""

    @property
    def note(self) -> str:
        """What a user must know before trusting it; empty for trained CLIP weights."""

    def prepare(self, image: Image.Image) -> Pixels:
        """An RGB image as the pixels (3, h, w) uint8 that `encode_images` takes. Thread-safe."""

    def encode_images(self, pixels: Pixels) -> Vectors:
        """Embed prepared pixels: (n, 3, h, w) uint8 -> (n, dim).

        Raises:
            EncoderError: the forward pass failed or gave something that is no embedding.
        """

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: m texts -> (m, dim).

        Raises:
            EncoderError: as above.
        """

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than `max_text_tokens`, so that its end is ignored."""

    def warmup(self) -> None:
        """Run once through images and texts, so that the first request is as fast as the next."""


@runtime_checkable
class PatchEncoder(Encoder, Protocol):
    """An encoder that can also say what the parts of an image show, for `gl-mcm` and maps."""

    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches of an image.

        Raises:
            NoPatches: the model behind it gives none.
        """

    def encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        """Embed prepared pixels and their patches in one forward: (n, dim) and (n, rows, columns, dim).

        The embeddings are those of `encode_images`; the patches are unit rows too.

        Raises:
            EncoderError: as `encode_images`.
            NoPatches: as `patch_grid`.
        """


def require_patches(encoder: Encoder) -> PatchEncoder:
    """The encoder, if it gives patches.

    Raises:
        NoPatches: it gives none.
    """
    if not isinstance(encoder, PatchEncoder):
        raise NoPatches(f"the encoder {encoder.name}")
    encoder.patch_grid()
    return encoder
