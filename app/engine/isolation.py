"""One item that the encoder cannot embed must not fail the others of its batch."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcm.embeddings import Vectors
from mcm.errors import EncoderError

Vector = NDArray[np.float32]  # (d,): one embedding

_log = logging.getLogger(__name__)


def encode_isolating(
    encode: Callable[[Any], Vectors], items: Sequence[Any] | Vectors, dim: int
) -> list[Vector | EncoderError]:
    """Encode items (pixels or texts): for each its row (dim,) or its own error.

    A batch fails when `encode` raises, gives another number of rows than items, or rows of another length
    or with numbers that are not finite. It is then halved until only the guilty are left alone.
    """
    try:
        return list(_checked(encode(items), len(items), dim))
    except Exception as error:
        if len(items) == 1:
            return [_own(error)]
        _log.warning("a batch of %d failed (%s); halving it", len(items), type(error).__name__)
    half = len(items) // 2
    return encode_isolating(encode, items[:half], dim) + encode_isolating(encode, items[half:], dim)


def _checked(rows: Vectors, n: int, dim: int) -> Vectors:
    if rows.shape != (n, dim):
        raise EncoderError(f"the encoder gave embeddings of shape {rows.shape} for {n} items")
    if not np.isfinite(rows).all():
        raise EncoderError("the encoder gave numbers that are not finite")
    return np.asarray(rows, dtype=np.float32)


def _own(error: Exception) -> EncoderError:
    if isinstance(error, EncoderError):
        return error
    _log.error("the encoder failed on one item", exc_info=error)
    wrapped = EncoderError("the encoder failed on this item")
    wrapped.__cause__ = error
    return wrapped
