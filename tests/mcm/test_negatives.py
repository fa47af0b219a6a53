"""The neglabel score: equal to the authors' code, bounded, stable, and refused where it cannot be."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mcm.embeddings import unit_rows
from mcm.errors import InvalidDefinition
from mcm.negatives import Negatives, NegativesChoice
from mcm.scores import energy, probabilities
from mcm.scores import neglabel as share
from tests.shared import shared

Array = NDArray[Any]


def neglabel(similarities: Any, negatives: Any, groups: int, temperature: float) -> Any:
    """The score of cosines (n, k) to the concepts and (n, m) to the negatives."""
    return share(energy(similarities, temperature), negatives, groups, temperature)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Any], dict[str, Array]]:
    data = json.loads(shared("golden/neglabel.json").read_text())
    with np.load(shared("golden/neglabel.npz")) as file:
        return data, {key: unit_rows(file[key]) for key in file}


@pytest.mark.parametrize(
    ("case", "groups"), [("groups_1", 1), ("groups_5", 5), ("groups_7", 7), ("groups_10", 10)]
)
def test_the_score_equals_the_authors_own(golden: Any, case: str, groups: int) -> None:
    data, vectors = golden
    chosen = np.concatenate(
        [vectors["nouns"][data["nouns_selected"]], vectors["adjectives"][data["adjectives_selected"]]]
    )
    permutation = data["scores"][case]["permutation"] or range(len(chosen))
    negatives = chosen[list(permutation)]
    scores = neglabel(vectors["images"] @ vectors["id_text"].T, vectors["images"] @ negatives.T, groups, 0.01)
    np.testing.assert_allclose(scores, data["scores"][case]["score"], rtol=1e-5, atol=5e-6)


def test_one_group_is_the_softmax_over_concepts_and_negatives() -> None:
    rng = np.random.default_rng(0)
    concepts, negatives = rng.uniform(-1, 1, (5, 3)), rng.uniform(-1, 1, (5, 4))
    p = probabilities(np.hstack([concepts, negatives]), 0.1)
    np.testing.assert_allclose(neglabel(concepts, negatives, 1, 0.1), p[:, :3].sum(axis=1), rtol=1e-12)


def test_the_groups_are_averaged_by_hand() -> None:
    # one concept at 0; each group holds one negative: shares 1/2 and 1/(1 + e)
    assert neglabel([[0.0]], [[0.0, 1.0]], 2, 1.0)[0] == pytest.approx((1 / 2 + 1 / (1 + np.e)) / 2)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    st.lists(st.floats(-1, 1), min_size=6, max_size=6),
    st.sampled_from([1, 2, 3, 6]),
    st.sampled_from([1e-6, 0.01, 1.0, 1e6]),
)
def test_it_is_a_share_at_every_temperature(
    concepts: list[float], negatives: list[float], groups: int, temperature: float
) -> None:
    (score,) = neglabel([concepts], [negatives], groups, temperature)
    assert 0 <= score <= 1


@given(st.floats(-0.9, 0.9), st.floats(0.001, 0.1))
def test_it_rises_with_a_concept_and_falls_with_a_negative(similarity: float, more: float) -> None:
    negatives = [[0.1, 0.2]]
    low, high = neglabel([[similarity], [similarity + more]], negatives * 2, 1, 1.0)
    assert low < high
    assert neglabel([[similarity]], [[0.1, 0.2 + more]], 1, 1.0)[0] < low


def test_negatives_fill_their_groups_evenly() -> None:
    rows = unit_rows(np.eye(3))
    with pytest.raises(InvalidDefinition, match="3 negative words do not fill 2 groups evenly"):
        Negatives(("a", "b", "c"), rows, 2)
    with pytest.raises(InvalidDefinition, match="2 negative words with 3 embeddings"):
        Negatives(("a", "b"), rows, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": 0}, "groups of the negatives must be a whole number from 1 to 10000, not 0"),
        ({"groups": 10_001}, "groups"),
        ({"groups": 2.5}, "groups"),
        ({"groups": True}, "groups"),
        ({"seed": -1}, "seed of the negatives must be a whole number from 0 to 4294967295, not -1"),
        ({"seed": None}, "seed"),
        ({"vocabulary": ""}, "vocabulary of the negatives must be a text"),
        ({"vocabulary_hash": 3}, "vocabulary_hash"),
        ({"drop_near": "yes"}, "drop_near of the negatives must be true or false"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        NegativesChoice(**{"vocabulary": "v", "vocabulary_hash": "h"} | wrong)
