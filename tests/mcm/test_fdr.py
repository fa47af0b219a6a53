"""The false discovery rate over a batch, and Storey's share; what they promise is proved in test_promises."""

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.calibration import Calibration
from mcm.errors import InvalidInput, NotCalibrated
from mcm.fdr import METHODS, discover, discover_images, ood_share

ALL_LOW = 0.0001
p_values = st.lists(st.integers(1, 40).map(lambda rank: rank / 40), min_size=1, max_size=30)
rates = st.integers(1, 99).map(lambda hundredths: hundredths / 100)


def found(p: list[float], q: float, method: str = "benjamini-hochberg") -> list[bool]:
    marks: list[bool] = discover(p, [ALL_LOW] * len(p), q, method=method).found.tolist()
    return marks


def test_benjamini_and_hochbergs_own_example_gives_four_discoveries() -> None:
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
         0.6528, 0.7590, 1.0]  # fmt: skip
    assert sum(found(p, 0.05)) == 4
    assert found(p[::-1], 0.05) == found(p, 0.05)[::-1]


@given(p=p_values, q=rates)
def test_the_discoveries_are_those_of_the_definition(p: list[float], q: float) -> None:
    exact = [Fraction(round(x * 40), 40) for x in p]
    bound = [Fraction(round(q * 100), 100) * r / len(p) for r in range(1, len(p) + 1)]
    ranks = [r for r, at_most in enumerate(bound, 1) if sum(x <= at_most for x in exact) >= r]
    limit = bound[max(ranks) - 1] if ranks else -1
    assert found(p, q) == [x <= limit for x in exact]


def test_storeys_variant_worked_by_hand() -> None:
    p = [0.04, 0.05, 0.3, 0.9]  # one of four above a half: (1 + 1) / 0.5 = 4 ID images, as if all were
    assert found(p, 0.1, "storey") == found(p, 0.1) == [True, True, False, False]
    p = [0.04, 0.05, 0.3, 0.4]  # none above a half: 2 ID images, so the bounds are twice as wide
    assert found(p, 0.2, "storey") == [True, True, True, True]
    assert found(p, 0.2) == [True, True, False, False]


def test_storeys_variant_never_takes_p_values_above_a_half() -> None:
    assert found([0.01] * 20 + [0.6], 0.9, "storey") == [True] * 20 + [False]


@given(p=p_values, q=rates)
def test_a_larger_q_never_loses_a_discovery(p: list[float], q: float) -> None:
    for method in METHODS:
        fewer, more = found(p, q / 2, method), found(p, q, method)
        assert all(later or not before for before, later in zip(fewer, more, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_without_images_has_no_discoveries(method: str) -> None:
    none = discover([], [], 0.1, method=method)
    assert (none.found.tolist(), none.smallest_possible) == ([], None)


# ---- how few discoveries are possible


@given(m=st.integers(1, 300), n=st.integers(1, 300), q=rates)
def test_the_smallest_possible_number_of_discoveries_follows_its_formula(m: int, n: int, q: float) -> None:
    expected = ceil(m / (Fraction(round(q * 100), 100) * (n + 1)))
    least = Calibration(np.arange(float(n))).smallest_p_values(m)
    assert least is not None
    made = discover(np.ones(m), least, q)
    assert made.smallest_possible == (None if expected > m else expected)


@given(p=p_values, q=rates)
def test_there_are_never_fewer_discoveries_than_possible_except_none(p: list[float], q: float) -> None:
    for method in METHODS:
        made = discover(p, [1 / 40] * len(p), q, method=method)
        count = int(made.found.sum())
        assert count == 0 or (made.smallest_possible is not None and count >= made.smallest_possible)


def test_few_calibration_scores_are_said_to_hide_single_images() -> None:
    made = discover(np.ones(500), np.full(500, 1 / 41), 0.1)
    assert made.smallest_possible == 122
    assert made.caution == (
        "with 40 calibration scores and 500 images at FDR 10 %, fewer than 122 discoveries are impossible, "
        "except none, whatever the images show; calibrate with 4999 images or more to find single ones"
    )
    enough = discover(np.ones(500), np.full(500, 1 / 5000), 0.1)
    assert (enough.smallest_possible, enough.caution) == (1, None)
    none = discover(np.ones(9), np.full(9, 1 / 5), 0.1)
    assert none.smallest_possible is None
    assert "no discovery is possible" in (none.caution or "")


def test_images_are_compared_with_the_calibration_scores() -> None:
    calibration = Calibration(np.arange(100.0))
    made = discover_images(calibration, [-1, 50, -2], ["a", "a", "b"], 0.1)
    assert made.found.tolist() == [True, False, True]
    assert made.smallest_possible == 1


def test_without_calibration_scores_nothing_can_be_discovered() -> None:
    with pytest.raises(NotCalibrated, match="calibrate with in-distribution images"):
        discover_images(Calibration(), [0.5], ["a"], 0.1)


# ---- Storey's share


def test_storeys_share_worked_by_hand() -> None:
    assert ood_share([0.1, 0.2, 0.3, 0.6, 0.01, 0.02, 0.03, 0.04]) == 1 - 2 / 4
    assert ood_share([0.5] * 4) == 1 - 1 / 2
    assert ood_share([0.9] * 4) == 0
    assert ood_share([]) is None


# ---- what is refused


@pytest.mark.parametrize("p", [[0.5, float("nan")], [-0.1], [1.1], [[0.5]], 0.5])
def test_what_are_no_p_values_is_refused(p: Any) -> None:
    with pytest.raises(InvalidInput, match="p-values must be"):
        discover(p, p, 0.1)
    with pytest.raises(InvalidInput, match="p-values must be"):
        ood_share(p)


@pytest.mark.parametrize("q", [0, 1, -1, 5, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused(q: float) -> None:
    with pytest.raises(InvalidInput, match="fdr must lie between 0 and 1"):
        discover([0.5], [0.1], q)


def test_an_unknown_method_and_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InvalidInput, match="choose one of benjamini-hochberg, storey"):
        discover([0.5], [0.1], 0.1, method="bonferroni")
    with pytest.raises(InvalidInput, match="as many smallest p-values"):
        discover([0.5], [0.1, 0.1], 0.1)
