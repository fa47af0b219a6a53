"""Embeddings: L2-normalised float32 vectors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.errors import InvalidEmbeddings

Vectors = NDArray[np.float32]


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
