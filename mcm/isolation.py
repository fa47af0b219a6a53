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
    encode: Callable[[Any], Vectors], items: Sequence[Any] | np.ndarray, *shape: int
) -> list[Vectors | EncoderError]:
    """Encode n items (pixels or texts): for each its embedding, or embeddings, of `shape`, or its own error.

    A batch fails when `encode` raises anything, or gives an array of another shape than (n, *shape). It is
    then halved until only the guilty are left alone, so a failure that does not come back harms nobody.
    An item with an embedding that is not finite or not of length 1 fails alone at once.
    """
    if not len(items):
        return []
    try:
        rows = np.asarray(encode(items), dtype=np.float32)
        if rows.shape != (len(items), *shape):
            raise EncoderError(
                f"the encoder gave embeddings of shape {rows.shape}, not {(len(items), *shape)}"
            )
    except Exception as error:
        if len(items) == 1:
            return [_own(error)]
        _log.warning("a batch of %d failed (%s); halving it", len(items), type(error).__name__)
    else:
        return _separate(rows)
    # Here the error is let go, and with it the memory that its traceback holds: it may have been too little.
    half = len(items) // 2
    return [*encode_isolating(encode, items[:half], *shape), *encode_isolating(encode, items[half:], *shape)]


def encode_patches_isolating(
    encode: Callable[[Any], tuple[Vectors, Vectors]], items: np.ndarray, rows: int, columns: int, dim: int
) -> list[tuple[Vectors, Vectors] | EncoderError]:
    """As `encode_isolating`, of n pixels: for each its embedding (dim,) and patches (rows, columns, dim)."""

    def joined(items: Any) -> Vectors:
        embeddings, patches = encode(items)
        return np.concatenate([embeddings[:, None], patches.reshape(len(items), -1, dim)], axis=1)

    return [
        # A copy, since the view would keep the patches of the whole batch in memory.
        one if isinstance(one, EncoderError) else (one[0].copy(), one[1:].reshape(rows, columns, dim))
        for one in encode_isolating(joined, items, 1 + rows * columns, dim)
    ]


def _separate(rows: Vectors) -> list[Vectors | EncoderError]:
    lengths = np.sqrt(np.einsum("...d,...d->...", rows, rows, dtype=np.float64))
    # false for NaN and infinity too
    sound = (np.abs(lengths - 1) < _LENGTH_TOLERANCE).reshape(len(rows), -1).all(axis=1)
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
