"""What the torch encoders share: the device, silence while loading, and the seam for torch's errors."""

import logging
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike

from mcm.embeddings import Vectors, unit_rows
from mcm.encoders.preprocessing import Preprocessing
from mcm.encoders.protocol import Pixels
from mcm.encoders.staging import Staging
from mcm.errors import EncoderError, EncoderLoadError, InvalidEmbeddings, McmError


def pick_device(device: str) -> torch.device:
    """The torch device for "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        EncoderLoadError: no such device here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    kind, _, number = device.partition(":")
    if device == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or not (number == "" or number.isdecimal()):
        raise EncoderLoadError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    if int(number or 0) >= gpus:
        raise EncoderLoadError(f"the device {device} is not there (GPUs found: {gpus}); use auto or cpu")
    return torch.device("cuda", int(number or 0))


class Normaliser:
    """Pixels (n, 3, h, w) uint8 -> (pixel / 255 - mean) / std on the device, in the model's dtype.

    On a GPU more rows may follow the n, see `Staging`.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype) -> None:
        self._shape = (3, *preprocessing.crop)
        self._staging, self._dtype = Staging(device), dtype
        self._mean = torch.tensor(preprocessing.mean, device=device).reshape(1, 3, 1, 1)
        self._std = torch.tensor(preprocessing.std, device=device).reshape(1, 3, 1, 1)

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """Raises EncoderError where the pixels are not what `prepare` gives."""
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._shape:
            raise EncoderError(
                f"pixels must be uint8 (n, {', '.join(map(str, self._shape))}) as `prepare` gives them, "
                f"not {pixels.dtype} {pixels.shape}"
            )
        values = self._staging(pixels).float()
        return values.div_(255).sub_(self._mean).div_(self._std).to(self._dtype)


def embeddings_of(features: ArrayLike) -> Vectors:
    """Features (n, d) of a forward pass as unit float32 rows.

    Raises:
        EncoderError: a row is zero or not finite.
    """
    try:
        return unit_rows(features)
    except InvalidEmbeddings as error:
        raise EncoderError(
            f"the encoder gave no usable embedding: {error}; its weights may be damaged, or overflow"
        ) from error


def patch_embeddings_of(features: Vectors) -> Vectors:
    """Features (n, rows, columns, d) of patches as unit float32 rows; image by image, to spare memory.

    Raises:
        EncoderError: as `embeddings_of`.
    """
    unit = [embeddings_of(of_one.reshape(-1, features.shape[-1])) for of_one in features]
    return np.reshape(unit, features.shape)


@contextmanager
def encoder_errors(what: str) -> Iterator[None]:
    """Whatever a library raises inside becomes an EncoderError; ours pass."""
    try:
        yield
    except McmError:
        raise
    except Exception as error:
        raise EncoderError(f"{what} failed: {first_line(error)}") from error


@contextmanager
def load_errors(what: str) -> Iterator[None]:
    """Whatever a library raises inside becomes an EncoderLoadError; ours pass."""
    try:
        yield
    except McmError:
        raise
    except Exception as error:
        raise EncoderLoadError(f"cannot {what}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What the error says, in one line of at most 250 characters."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0], 250, placeholder=" ...") if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and no records that libraries write to the root logger, while a model is built.

    open_clip reports through `logging.warning`, which also sets up logging where nobody has: a handler
    that does nothing prevents this.
    """
    root, handler = logging.getLogger(), logging.NullHandler()

    def reject(record: logging.LogRecord) -> bool:
        return record.name != root.name

    root.addHandler(handler)
    root.addFilter(reject)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(reject)
        root.removeHandler(handler)
