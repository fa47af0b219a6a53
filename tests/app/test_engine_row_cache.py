"""Embeddings of texts, remembered within a bound of bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.engine.row_cache import ENTRY_OVERHEAD_BYTES, RowCache

ROW = np.ones(16, dtype=np.float32)
ENTRY = ENTRY_OVERHEAD_BYTES + ROW.nbytes + 1  # of a text of one letter


def test_what_was_put_is_found_and_the_rest_is_not() -> None:
    cache = RowCache(10_000)
    cache.put("a", ROW)
    found = cache.get(["a", "b"])
    assert list(found) == ["a"]
    assert found["a"].tolist() == ROW.tolist()


def test_the_least_recently_used_goes_first() -> None:
    cache = RowCache(3 * ENTRY)
    for text in "abc":
        cache.put(text, ROW)
    cache.get(["a"])
    cache.put("d", ROW)
    assert set(cache.get("abcd")) == {"a", "c", "d"}


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = RowCache(0)
    cache.put("a", ROW)
    assert cache.get(["a"]) == {}
    assert cache.bytes_in_use == 0


def test_a_kept_row_does_not_keep_its_batch_and_cannot_be_changed() -> None:
    batch = np.ones((1000, 16), dtype=np.float32)
    cache = RowCache(10_000)
    cache.put("a", batch[0])
    kept = cache.get(["a"])["a"]
    assert kept.base is None
    assert not kept.flags.writeable


@given(st.lists(st.text(max_size=30), max_size=60), st.integers(0, 5000))
def test_never_over_the_bound_and_the_count_is_true(texts: list[str], limit: int) -> None:
    cache = RowCache(limit)
    for text in texts:
        cache.put(text, ROW)
        assert cache.bytes_in_use <= limit
    known = cache.get(dict.fromkeys(texts))
    assert cache.bytes_in_use == sum(len(text.encode()) + ROW.nbytes + ENTRY_OVERHEAD_BYTES for text in known)


def test_lone_surrogates_are_texts_too() -> None:
    cache = RowCache(10_000)
    cache.put("\ud800", ROW)
    assert "\ud800" in cache.get(["\ud800"])
