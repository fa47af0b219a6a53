"""Which items of a batch fail when the encoder does."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.embeddings import Vectors
from mcm.errors import EncoderError
from mcm.isolation import encode_isolating, encode_patches_isolating

DIM = 3


def row(item: int) -> list[float]:
    """The embedding of an item: a unit vector that tells which one it is."""
    return [np.cos(item), np.sin(item), 0.0]


def rows(items: Sequence[int]) -> Vectors:
    return np.array([row(item) for item in items], dtype=np.float32).reshape(-1, DIM)


def guilty(outcomes: Sequence[Vectors | EncoderError]) -> list[int]:
    return [place for place, outcome in enumerate(outcomes) if isinstance(outcome, EncoderError)]


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_only_the_items_that_make_the_encoder_raise_fail(n: int, poison: set[int]) -> None:
    def encode(items: Sequence[int]) -> Vectors:
        if poison & set(items):
            raise RuntimeError("poison")
        return rows(items)

    outcomes = encode_isolating(encode, range(n), DIM)
    assert guilty(outcomes) == sorted(place for place in poison if place < n)
    for place, outcome in enumerate(outcomes):
        if not isinstance(outcome, EncoderError):
            assert outcome.tolist() == rows([place])[0].tolist()


def test_one_poisoned_item_among_32_takes_eleven_forwards() -> None:
    batches: list[int] = []

    def encode(items: Sequence[int]) -> Vectors:
        batches.append(len(items))
        if 5 in items:
            raise EncoderError("poison")
        return rows(items)

    assert guilty(encode_isolating(encode, range(32), DIM)) == [5]
    assert sorted(batches) == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32]


def test_a_failure_that_does_not_come_back_fails_nobody() -> None:
    calls = iter([RuntimeError("out of memory")])

    def encode(items: Sequence[int]) -> Vectors:
        for error in calls:
            raise error
        return rows(items)

    assert guilty(encode_isolating(encode, range(8), DIM)) == []


@pytest.mark.parametrize("wrong", [lambda r: r[:-1], lambda r: np.vstack([r, r[:1]]), lambda r: r[:, :2]])
def test_a_batch_of_the_wrong_shape_is_not_trusted(wrong: object) -> None:
    assert callable(wrong)

    def encode(items: Sequence[int]) -> Vectors:
        whole = rows(items)
        return whole if len(items) <= 2 else np.asarray(wrong(whole))

    assert guilty(encode_isolating(encode, range(7), DIM)) == []


def test_an_encoder_that_always_gives_too_few_rows_fails_every_item() -> None:
    outcomes = encode_isolating(lambda items: rows(items)[1:], range(5), DIM)
    assert guilty(outcomes) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e30])
def test_a_row_that_is_no_embedding_fails_alone_and_at_once(value: float) -> None:
    batches: list[int] = []

    def encode(items: Sequence[int]) -> Vectors:
        batches.append(len(items))
        found = rows(items)
        found[2] = value
        return found

    assert guilty(encode_isolating(encode, range(4), DIM)) == [2]
    assert batches == [4]


def test_the_error_of_the_encoder_is_kept_as_the_cause_and_named_without_its_text() -> None:
    def encode(items: Sequence[int]) -> Vectors:
        raise MemoryError("at /opt/weights")

    (outcome,) = encode_isolating(encode, range(1), DIM)
    assert isinstance(outcome, EncoderError)
    assert isinstance(outcome.__cause__, MemoryError)
    assert "MemoryError" in str(outcome)
    assert "/opt" not in str(outcome)  # it may reach a caller of the service


def test_no_items_need_no_encoder() -> None:
    def encode(items: Sequence[int]) -> Vectors:
        raise AssertionError("called")

    assert encode_isolating(encode, [], DIM) == []


def with_patches(items: np.ndarray) -> tuple[Vectors, Vectors]:
    """Patches (2, 1) of an item: its own embedding, and that of its negative."""
    own, opposite = rows(items.tolist()), rows((-items).tolist())
    return own, np.stack([own, opposite], axis=1)[:, :, None]


def test_each_item_gets_its_own_patches_and_an_embedding_that_holds_no_other_memory() -> None:
    outcomes = encode_patches_isolating(with_patches, np.arange(5), 2, 1, DIM)
    for item, outcome in enumerate(outcomes):
        assert not isinstance(outcome, EncoderError)
        embedding, patches = outcome
        assert embedding.tolist() == rows([item])[0].tolist()
        assert embedding.base is None
        assert patches.tolist() == [[rows([item])[0].tolist()], [rows([-item])[0].tolist()]]


def test_only_the_item_with_a_patch_that_is_no_embedding_fails() -> None:
    def encode(items: np.ndarray) -> tuple[Vectors, Vectors]:
        embeddings, patches = with_patches(items)
        patches[2, 1] = np.nan
        return embeddings, patches

    found = [isinstance(o, EncoderError) for o in encode_patches_isolating(encode, np.arange(4), 2, 1, DIM)]
    assert found == [False, False, True, False]


def test_patches_of_another_grid_are_not_trusted() -> None:
    outcomes = encode_patches_isolating(with_patches, np.arange(2), 2, 2, DIM)
    assert all(isinstance(outcome, EncoderError) for outcome in outcomes)
