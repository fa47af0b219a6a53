"""Embeddings: L2-normalised float32 vectors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.errors import InvalidEmbeddings
from mcm.scores import Floats

Vectors = NDArray[np.float32]
_STRETCH = 256  # rows made float64 at a time: they stay in the cache, ten times faster than all at once


def unit_rows(vectors: ArrayLike, dim: int | None = None) -> Vectors:
    """The vectors (n, d) as embeddings: finite float32 rows of length 1. n may be 0.

    Raises:
        InvalidEmbeddings: not numbers, not (n, dim), or a row that is zero or not finite; the message
            names the row.
    """
    try:
        rows = np.asarray(vectors, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidEmbeddings("embeddings must be lists of numbers, all of the same length") from error
    if rows.ndim != 2:
        raise InvalidEmbeddings(f"embeddings must be a matrix (n, d), not of shape {rows.shape}")
    if dim is not None and rows.shape[1] != dim:
        raise InvalidEmbeddings(f"embeddings have {rows.shape[1]} numbers, the encoder makes {dim}")
    scale = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    bad = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
    if bad.size:
        raise InvalidEmbeddings(f"embedding {bad[0]} is zero or not finite")
    rows = rows / scale  # so that the squares of huge or tiny numbers neither overflow nor vanish
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def cosines(rows: Vectors, others: Vectors) -> Floats:
    """Cosines (n, m) in [-1, 1] of unit rows (n, d) and (m, d), the same however the rows are divided.

    A float32 product depends on the shapes in its last digits; a float64 one, rounded to float32, does not.
    """
    found = np.empty((len(rows), len(others)), dtype=np.float32)
    wide = rows.astype(np.float64)
    for start in range(0, len(others), _STRETCH):
        stretch = others[start : start + _STRETCH].astype(np.float64)
        found[:, start : start + _STRETCH] = wide @ stretch.T
    return np.asarray(found.clip(-1, 1).astype(np.float64))
