"""Embeddings that are computed once and kept in files of the user's cache folder."""

from pathlib import Path

import numpy as np
import pytest

from mcm.embeddings import Vectors
from mcm.encoders.disk_cache import cached

KEY = "0123456789abcdef" * 4


class Counted:
    """Computes a matrix and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Vectors:
        self.times += 1
        return np.eye(2, 3, dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mcm-ood"


def test_a_matrix_is_computed_once_and_kept_in_the_users_cache(cache: Path) -> None:
    compute = Counted()
    for _ in range(2):
        np.testing.assert_array_equal(cached("words", KEY, (2, 3), compute), np.eye(2, 3))
    assert compute.times == 1
    assert len(list(cache.iterdir())) == 1


def test_another_key_is_computed_anew(cache: Path) -> None:
    compute = Counted()
    cached("words", KEY, (2, 3), compute)
    cached("words", KEY[:-1] + "0", (2, 3), compute)  # also where the file's name is the same
    cached("words", KEY[::-1], (2, 3), compute)
    assert compute.times == 3


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_cache_is_computed_anew_and_mended(cache: Path, damage: str) -> None:
    compute = Counted()
    cached("words", KEY, (2, 3), compute)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    place = whole.index(np.eye(2, 3, dtype=np.float32).tobytes())
    flipped = whole[:place] + b"\x7f" + whole[place + 1 :]
    file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "flipped": flipped}[damage])
    np.testing.assert_array_equal(cached("words", KEY, (2, 3), compute), np.eye(2, 3))
    cached("words", KEY, (2, 3), compute)
    assert compute.times == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    np.testing.assert_array_equal(cached("words", KEY, (2, 3), Counted()), np.eye(2, 3))


def test_a_relative_cache_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    cached("words", KEY, (2, 3), Counted())
    assert len(list((tmp_path / ".cache" / "mcm-ood").iterdir())) == 1


def test_two_kinds_never_share_a_file(cache: Path) -> None:
    compute = Counted()
    cached("words", KEY, (2, 3), compute)
    cached("classes", KEY, (2, 3), compute)
    assert sorted(file.name.partition("-")[0] for file in cache.iterdir()) == ["classes", "words"]
