import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.bootstrap import FIELDS, draw_metrics, intervals, percentile_intervals
from mcm.errors import InvalidInput
from mcm.metrics import Metrics, metrics

scores = st.lists(st.integers(0, 6).map(float) | st.floats(-2, 2), min_size=1, max_size=40)


def resampled(values: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    return np.asarray(values)[stream.integers(len(values), size=len(values), dtype=np.uint32)]


@settings(deadline=None)  # the first call imports scikit-learn
@given(id_=scores, ood=scores, seed=st.integers(0, 2**32))
def test_a_draw_has_the_metrics_of_its_images(id_: list[float], ood: list[float], seed: int) -> None:
    id_stream, ood_stream = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    for drawn in draw_metrics(id_, [ood], draws=3, seed=seed)[0]:
        # sorted, since the draws count places among the sorted scores
        expected = metrics(resampled(np.sort(id_), id_stream), resampled(np.sort(ood), ood_stream))
        assert drawn == pytest.approx(dataclasses.astuple(expected), abs=1e-12)


def test_the_fields_are_those_of_the_metrics_in_order() -> None:
    assert list(FIELDS) == [field.name for field in dataclasses.fields(Metrics)]


def test_all_sets_meet_the_same_id_images_and_images_of_their_own() -> None:
    id_, ood = np.arange(50.0), np.arange(50.0) - 10
    first, second = draw_metrics(id_, [ood, ood], draws=200)
    assert not np.array_equal(first, second)
    # AUROC varies with both sides: what the sets share is the ID images' part
    assert 0.2 < np.corrcoef(first[:, 0], second[:, 0])[0, 1] < 0.8
    alone = draw_metrics(id_, [ood], draws=200)[0]
    assert np.array_equal(first, alone)  # a further set changes nothing


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    rng = np.random.default_rng(5)
    id_, ood = rng.normal(1, 1, 100), rng.normal(0, 1, 80)
    assert intervals(id_, ood, draws=50) == intervals(id_, ood, draws=50)
    assert intervals(id_, ood, draws=50) != intervals(id_, ood, draws=50, seed=1)


def test_intervals_hold_the_metrics_and_shrink_with_more_images() -> None:
    rng = np.random.default_rng(5)
    widths = []
    for n in (100, 10_000):
        id_, ood = rng.normal(1, 1, n), rng.normal(0, 1, n)
        found, made = intervals(id_, ood, draws=200), dataclasses.astuple(metrics(id_, ood))
        low, high = dataclasses.astuple(found.low), dataclasses.astuple(found.high)
        assert all(a <= b <= c for a, b, c in zip(low, made, high, strict=True))
        widths.append(np.subtract(high, low))
    assert (widths[0] > 5 * widths[1]).all()


def test_an_interval_holds_the_true_auroc_about_as_often_as_it_says() -> None:
    """Two normal distributions at distance 1: the true AUROC is Phi(1 / sqrt 2) = 0.76025."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        found = intervals(rng.normal(1, 1, 150), rng.normal(0, 1, 150), draws=200, level=0.9)
        held += found.low.auroc <= 0.76025 <= found.high.auroc
    assert 0.83 <= held / 200 <= 0.96  # 0.9 within three standard errors, and the bootstrap's own error


def test_perfect_scores_have_no_spread() -> None:
    found = intervals([2, 3, 4], [0, 1], draws=20)
    assert found.low == found.high == Metrics(auroc=1, aupr=1, fpr95=0, fpr95_ood_positive=0)


@pytest.mark.parametrize("level", [0, 1, -1, float("nan")])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(InvalidInput, match="level of an interval"):
        percentile_intervals(np.zeros((3, 4)), level=level)


def test_no_draws_and_no_scores_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1 draw"):
        intervals([1.0], [0.0], draws=0)
    with pytest.raises(InvalidInput, match="OOD scores must not be empty"):
        intervals([1.0], [])
