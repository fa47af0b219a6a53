"""One contract for every score, and agreement with the values of the authors' own code."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mcm.embeddings import unit_rows
from mcm.errors import InvalidDefinition, InvalidInput
from mcm.scores import (
    SCORES,
    Floats,
    Score,
    energy,
    entropy,
    finite_scores,
    get_score,
    gl_mcm,
    local_mcm,
    probabilities,
)
from tests.shared import shared

GOLDEN_NAMES = {"var": "variance"}
BY_THE_AUTHORS = ["mcm", "max-logit", "energy", "entropy", "variance"]  # in these golden files

every_score = pytest.mark.parametrize("score", SCORES.values(), ids=list(SCORES))
temperatures = st.floats(1e-6, 1e6)
mild_temperatures = st.floats(0.01, 100)
cosine = st.floats(-1, 1)


def matrices(min_rows: int = 1, min_columns: int = 1) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(st.integers(min_rows, 6), st.integers(min_columns, 8))
    return arrays(np.float64, shapes, elements=cosine)


@pytest.mark.parametrize("name", ["small", "medium"])
def test_every_score_agrees_with_the_authors_code_at_every_temperature(name: str) -> None:
    data = np.load(shared(f"golden/{name}.npz"))
    text, id_, ood = (unit_rows(data[key]) for key in ("text", "id", "ood"))
    compared = 0
    for temperature, by_score in json.loads(shared(f"golden/{name}.json").read_text()).items():
        for score, golden in by_score.items():
            function = get_score(GOLDEN_NAMES.get(score, score)).function
            for images, expected in ((id_, golden["id"]), (ood, golden["ood"])):
                ours = function(images @ text.T, float(temperature))
                assert np.isclose(ours, expected, rtol=1e-5, atol=5e-6).all(), (temperature, score)
                compared += 1
    assert compared == 3 * len(BY_THE_AUTHORS) * 2


@every_score
@given(similarities=matrices(min_rows=0), temperature=temperatures)
def test_gives_one_finite_float64_a_row_for_all_cosines_and_temperatures(
    score: Score, similarities: Floats, temperature: float
) -> None:
    result = score.function(similarities, temperature)
    assert result.shape == (len(similarities),)
    assert result.dtype == np.float64
    assert np.isfinite(result).all()


@every_score
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("fill", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("k", [1, 2, 100_000])
def test_is_finite_at_the_corners(score: Score, temperature: float, fill: float, k: int) -> None:
    similarities = np.full((2, k), fill)
    similarities[1, 0] = -fill
    assert np.isfinite(score.function(similarities, temperature)).all()


@every_score
def test_no_images_give_no_scores(score: Score) -> None:
    assert score.function(np.empty((0, 3)), 1.0).shape == (0,)


@every_score
@given(similarities=matrices(), temperature=temperatures)
def test_is_deterministic_and_leaves_its_input_alone(
    score: Score, similarities: Floats, temperature: float
) -> None:
    before = similarities.copy()
    first = score.function(similarities, temperature)
    np.testing.assert_array_equal(first, score.function(similarities, temperature))
    np.testing.assert_array_equal(similarities, before)


@every_score
@given(similarities=matrices(), temperature=temperatures)
def test_a_rows_score_does_not_depend_on_the_other_rows(
    score: Score, similarities: Floats, temperature: float
) -> None:
    together = score.function(similarities, temperature)
    alone = [score.function(row[None], temperature)[0] for row in similarities]
    np.testing.assert_allclose(together, alone, rtol=1e-14, atol=0)


@every_score
@given(similarities=matrices(), temperature=mild_temperatures, data=st.data())
def test_the_order_of_the_concepts_does_not_matter(
    score: Score, similarities: Floats, temperature: float, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(similarities.shape[1])))
    shuffled = score.function(similarities[:, order], temperature)
    np.testing.assert_allclose(shuffled, score.function(similarities, temperature), rtol=1e-10, atol=1e-12)


@every_score
@given(similarities=matrices(), temperature=mild_temperatures, rise=st.floats(0, 1))
def test_a_better_match_never_lowers_the_score(
    score: Score, similarities: Floats, temperature: float, rise: float
) -> None:
    better = similarities.copy()
    better[np.arange(len(better)), better.argmax(axis=1)] += rise
    assert (score.function(better, temperature) >= score.function(similarities, temperature) - 1e-12).all()


@every_score
def test_a_clear_match_scores_higher_than_none(score: Score) -> None:
    clear, none = score.function([[0.9, 0.1, 0.1], [0.1, 0.1, 0.1]], 1.0)
    assert clear > none


@every_score
@given(similarities=matrices(), temperature=mild_temperatures, shift=st.floats(-1, 1))
def test_a_shift_of_all_similarities_moves_only_scores_that_do_not_contrast(
    score: Score, similarities: Floats, temperature: float, shift: float
) -> None:
    moved = score.function(similarities + shift, temperature) - score.function(similarities, temperature)
    np.testing.assert_allclose(moved, 0.0 if score.contrasts else shift, rtol=0, atol=1e-9)


@every_score
@given(column=arrays(np.float64, st.tuples(st.integers(2, 6), st.just(1)), elements=cosine, unique=True))
def test_with_equal_concepts_only_scores_that_do_not_contrast_tell_images_apart(
    score: Score, column: Floats
) -> None:
    for k in (1, 3):
        distinct = np.unique(score.function(np.repeat(column, k, axis=1), 1.0).round(15)).size
        assert (distinct == 1) if score.contrasts else (distinct > 1 or np.ptp(column) < 1e-14)


@given(similarities=matrices(), temperature=temperatures)
def test_probabilities_sum_to_one(similarities: Floats, temperature: float) -> None:
    p = probabilities(similarities, temperature)
    assert p.shape == similarities.shape
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


@given(similarities=matrices(), temperature=temperatures)
def test_scores_stay_in_the_ranges_that_their_docstrings_give(
    similarities: Floats, temperature: float
) -> None:
    k = similarities.shape[1]
    slack = 1e-12
    best = similarities.max(axis=1)
    ranges = {
        "mcm": (1 / k, 1),
        "max-logit": (-1, 1),
        "energy": (best, best + temperature * np.log(k) + slack * temperature),
        "entropy": (-np.log(k), 0),
        "variance": (0, (k - 1) / k**2),
        "gl-mcm": (1 / k, 1),  # the part of the global embedding
        "neglabel": (best, best + temperature * np.log(k) + slack * temperature),  # the concepts' part
    }
    assert ranges.keys() == SCORES.keys()
    for name, (low, high) in ranges.items():
        values = SCORES[name].function(similarities, temperature)
        assert (values >= low - slack).all(), name
        assert (values <= high + slack).all(), name


def test_values_worked_by_hand() -> None:
    # softmax of (ln 1, ln 3) = (1/4, 3/4)
    similarities = np.log([[1.0, 3.0]])
    expected = {
        "mcm": 0.75,
        "max-logit": np.log(3),
        "energy": np.log(4),
        "entropy": 0.25 * np.log(0.25) + 0.75 * np.log(0.75),
        "variance": 0.0625,
        "gl-mcm": 0.75,
        "neglabel": np.log(4),
    }
    assert expected.keys() == SCORES.keys()
    for name, value in expected.items():
        assert SCORES[name].function(similarities, 1.0)[0] == pytest.approx(value, rel=1e-14), name


def test_the_local_part_is_the_best_of_an_images_patches_worked_by_hand() -> None:
    # two images of two patches: softmax of (ln 1, ln 3) = (1/4, 3/4), of (0, 0) = (1/2, 1/2)
    patches = np.log([[1.0, 1.0], [1.0, 3.0], [1.0, 1.0], [1.0, 1.0]])
    local = local_mcm(patches, 2)
    np.testing.assert_allclose(local, [0.75, 0.5], rtol=1e-14)
    np.testing.assert_allclose(gl_mcm(np.array([0.6, 0.7]), local, 2.0), [2.1, 1.7], rtol=1e-14)
    np.testing.assert_allclose(gl_mcm(np.array([0.6, 0.7]), local), [0.975, 0.95], rtol=1e-14)


def test_a_tiny_temperature_makes_energy_the_maximum_and_entropy_zero() -> None:
    similarities = [[0.3, -0.2, 0.1]]
    assert energy(similarities, 1e-6)[0] == 0.3
    assert entropy(similarities, 1e-6)[0] == 0


def test_a_thousand_concepts_keep_the_ranking_that_float32_would_lose() -> None:
    similarities = np.full((2, 1000), 0.2)
    similarities[:, 0] = 0.3, 0.3 + 1e-8
    worse, better = SCORES["mcm"].function(similarities, 1.0)
    assert worse < better
    assert np.float32(worse) == np.float32(better)


@every_score
@pytest.mark.parametrize("temperature", [0, -1.0, 1e-320, float("nan"), float("inf"), None, "cold"])
def test_a_temperature_that_would_give_no_number_is_refused(score: Score, temperature: Any) -> None:
    with pytest.raises(InvalidDefinition, match="temperature must be a number from 1e-06 to 1e\\+06, not"):
        score.function([[0.3, 0.1]], temperature)
    with pytest.raises(InvalidDefinition, match="temperature must be"):
        probabilities([[0.3, 0.1]], temperature)


def test_an_unknown_score_is_refused_by_name_with_the_choices() -> None:
    with pytest.raises(InvalidDefinition, match=r"'msp'.*mcm, max-logit, energy, entropy, variance"):
        get_score("msp")


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.1, float("nan")], "finite"),
        ([0.1, float("inf")], "finite"),
        ([-1e301], "finite"),
        ([[0.1, 0.2]], "one an image"),
        (0.5, "one an image"),
        (["high"], "list of numbers"),
        ([None], "finite|list of numbers"),
        ([{}], "list of numbers"),
        ([[1.0], [1.0, 2.0]], "list of numbers"),
        ([10**400], "list of numbers"),
    ],
)
def test_scores_from_outside_must_be_a_vector_of_finite_numbers(scores: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^ID scores must be.*({reason})"):
        finite_scores(scores, "ID scores")  # type: ignore[arg-type]
