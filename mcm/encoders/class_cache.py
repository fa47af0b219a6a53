"""The class embeddings of the built-in encoder: computed once (about 8 seconds), then kept in a file."""

import os
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mcm.embeddings import Vectors


def cached(key: str, shape: tuple[int, int], compute: Callable[[], Vectors]) -> Vectors:
    """What `compute` gives, from the user's cache folder where `key` is there, else computed and kept.

    A damaged file is computed again; a folder that cannot be written is done without.
    """
    try:
        path = _cache_folder() / f"classes-{key[:16]}.npz"
    except RuntimeError:  # no home folder
        return compute()
    found = _read(path, key, shape)
    if found is not None:
        return found
    matrix = compute()
    with suppress(OSError):
        _write(path, key, matrix)
    return matrix


def _cache_folder() -> Path:
    """$XDG_CACHE_HOME/mcm-ood, which the XDG rules ignore where it is not absolute."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "mcm-ood"


def _read(path: Path, key: str, shape: tuple[int, int]) -> Vectors | None:
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            # A zip file: its checksums are verified.
            same, matrix = str(file["key"]) == key, file["matrix"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if not same or matrix.dtype != np.float32 or matrix.shape != shape or not np.isfinite(matrix).all():
        return None
    return np.asarray(matrix)


def _write(path: Path, key: str, matrix: Vectors) -> None:
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
