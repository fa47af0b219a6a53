import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mcm.embeddings import unit_rows
from mcm.errors import InvalidEmbeddings


def test_rows_keep_their_direction_and_get_length_one() -> None:
    rows = unit_rows([[3, 4], [0, -2]])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-7)


@given(arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.floats(-1e308, 1e308)))
def test_every_finite_row_that_is_not_zero_becomes_a_unit_row(vectors: np.ndarray) -> None:
    vectors = vectors[vectors.any(axis=1)]
    rows = unit_rows(vectors)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, rtol=1e-6)
    assert (np.sign(rows) * np.sign(vectors) >= 0).all()


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-30, 1e30, 1.7e308])
def test_huge_and_tiny_vectors_neither_overflow_nor_vanish(size: float) -> None:
    np.testing.assert_allclose(unit_rows([[size, size]]), [[2**-0.5, 2**-0.5]], rtol=1e-6)


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 33))
    alone = np.concatenate([unit_rows(vector[None]) for vector in vectors])
    np.testing.assert_array_equal(unit_rows(vectors), alone)


def test_no_rows_are_fine() -> None:
    assert unit_rows(np.empty((0, 4)), 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([1.0, 2.0], r"matrix \(n, d\), not of shape \(2,\)"),
        ([], r"matrix \(n, d\), not of shape \(0,\)"),
        ([[[1.0]]], "matrix"),
        ([[1.0, 2.0], [1.0]], "same length"),
        ([["a", "b"]], "lists of numbers"),
        ([[{}, {}]], "lists of numbers"),
        ([[10**400, 1]], "lists of numbers"),
        ([[1.0, 2.0, 3.0]], "have 3 numbers, the encoder makes 2"),
        ([[1.0, 2.0], [0.0, -0.0]], "embedding 1 is zero or not finite"),
        ([[1.0, 2.0], [1.0, 2.0], [float("nan"), 1.0]], "embedding 2 is zero or not finite"),
        ([[float("-inf"), 1.0]], "embedding 0 is zero or not finite"),
    ],
)
def test_what_is_no_embedding_is_refused_with_the_reason(vectors: object, reason: str) -> None:
    with pytest.raises(InvalidEmbeddings, match=reason):
        unit_rows(vectors, 2)  # type: ignore[arg-type]


def test_vectors_without_numbers_are_refused() -> None:
    with pytest.raises(InvalidEmbeddings, match="embedding 0"):
        unit_rows(np.empty((2, 0)))
