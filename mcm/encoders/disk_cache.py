"""Embeddings that take long to compute and never change: kept in files of the user's cache folder."""

import os
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mcm.embeddings import Vectors


def cached(kind: str, key: str, shape: tuple[int, int], compute: Callable[[], Vectors]) -> Vectors:
    """What `compute` gives, from the cache where `key` is there, else computed and kept.

    `kind` begins the file's name; `key` is a hash of all that decides the matrix. A damaged file is computed
    again; a folder that cannot be written is done without.
    """
    found = read(kind, key, shape)
    if found is not None:
        return found
    matrix = compute()
    write(kind, key, matrix)
    return matrix


def read(kind: str, key: str, shape: tuple[int, int]) -> Vectors | None:
    """The matrix that `write` kept under `key`; None if it is not there, damaged or of another shape."""
    path = _path(kind, key)
    if path is None:
        return None
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            # A zip file: its checksums are verified.
            same, matrix = str(file["key"]) == key, file["matrix"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if not same or matrix.dtype != np.float32 or matrix.shape != shape or not np.isfinite(matrix).all():
        return None
    return np.asarray(matrix)


def write(kind: str, key: str, matrix: Vectors) -> None:
    """Keep a matrix, if there is a folder for it that can be written."""
    path = _path(kind, key)
    if path is not None:
        with suppress(OSError):
            _replace(path, key, matrix)


def _path(kind: str, key: str) -> Path | None:
    """In $XDG_CACHE_HOME/mcm-ood, which the XDG rules ignore where it is not absolute."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no home folder
        return None
    return folder / "mcm-ood" / f"{kind}-{key[:16]}.npz"


def _replace(path: Path, key: str, matrix: Vectors) -> None:
    """Whole or not at all, also when two processes start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, key=np.array(key), matrix=matrix)
        Path(temporary).replace(path)
    except OSError:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
