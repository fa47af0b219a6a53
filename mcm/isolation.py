"""One item that the encoder cannot embed must not fail the others of its batch."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mcm.embeddings import Vectors
from mcm.errors import EncoderError

_log = logging.getLogger(__name__)
_LENGTH_TOLERANCE = 1e-2  # an embedding has length 1; this much is forgiven to half precision


def encode_isolating(
    encode: Callable[[Any], Vectors], items: Sequence[Any] | np.ndarray, dim: int
) -> list[Vectors | EncoderError]:
    """Encode n items (pixels or texts): for each its embedding (dim,), or its own error.

    A batch fails when `encode` raises anything, or gives an array of another shape than (n, dim). It is
    then halved until only the guilty are left alone, so a failure that does not come back harms nobody.
    A row that is not finite or not of length 1 fails alone at once.
    """
    if not len(items):
        return []
    try:
        rows = np.asarray(encode(items), dtype=np.float32)
        if rows.shape != (len(items), dim):
            raise EncoderError(
                f"the encoder gave embeddings of shape {rows.shape} for {len(items)} items of {dim} numbers"
            )
    except Exception as error:
        if len(items) == 1:
            return [_own(error)]
        _log.warning("a batch of %d failed (%s); halving it", len(items), type(error).__name__)
    else:
        return _separate(rows)
    # Here the error is let go, and with it the memory that its traceback holds: it may have been too little.
    half = len(items) // 2
    return [*encode_isolating(encode, items[:half], dim), *encode_isolating(encode, items[half:], dim)]


def _separate(rows: Vectors) -> list[Vectors | EncoderError]:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    sound = np.abs(lengths - 1) < _LENGTH_TOLERANCE  # false for NaN and infinity too
    return [
        row if good else EncoderError("the encoder gave numbers that are no embedding for this item")
        for row, good in zip(rows, sound, strict=True)
    ]


def _own(error: Exception) -> EncoderError:
    if isinstance(error, EncoderError):
        return error
    wrapped = EncoderError(f"the encoder failed on this item ({type(error).__name__})")
    wrapped.__cause__ = error
    return wrapped
