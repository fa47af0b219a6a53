"""Targets, ranks and the numbers of scores that they need."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from mcm.calibration import Certificate, calibrate
from mcm.errors import InvalidInput, TooFewScores
from mcm.thresholds import Target

rates = st.integers(1, 99).map(lambda hundredths: hundredths / 100)


def pac(n: int, **options: Any) -> Certificate:
    """The certificate of the scores 1 .. n."""
    made = calibrate(np.arange(1.0, n + 1), "hash", method="pac", **options).certificate
    assert made is not None
    return made


@pytest.mark.parametrize(("n", "k"), [(59, 1), (100, 2), (200, 5), (500, 17), (1000, 39), (5000, 225)])
def test_pac_takes_the_kth_smallest_of_the_published_table(n: int, k: int) -> None:
    made = pac(n)
    assert (made.k, made.threshold, made.n) == (k, k, n)
    assert (made.method, made.false_alarm_rate, made.confidence) == ("pac", 0.05, 0.95)
    assert made.expected_rate == k / (n + 1)
    assert made.rate_interval == pytest.approx(beta.interval(0.9, k, n + 1 - k), rel=1e-9)


@given(n=st.integers(1, 400), rate=rates, confidence=rates)
def test_k_is_the_largest_that_keeps_the_promise_of_pac(n: int, rate: float, confidence: float) -> None:
    chances = binom.sf(np.arange(n), n, rate)  # P(Bin(n, a) >= k) for k = 1 .. n
    expected = int((chances >= confidence - 1e-9).sum())
    assert Target("pac", rate, confidence).rank(n) == expected


@given(rate=rates, confidence=rates)
def test_needed_is_the_smallest_number_of_scores_with_a_rank(rate: float, confidence: float) -> None:
    for method in ("split-conformal", "pac"):
        target = Target(method, rate, confidence)
        assert target.rank(target.needed) >= 1
        assert target.needed == 1 or target.rank(target.needed - 1) == 0


def test_an_even_chance_of_an_even_rate_is_kept_by_one_score() -> None:
    assert Target("pac", 0.5, 0.5).needed == 1
    assert Target("pac", 0.5, 0.75).needed == 2


def test_too_few_scores_for_pac_are_told_how_many_more() -> None:
    with pytest.raises(
        TooFewScores, match=r"with 95 % confidence; at least 59 are needed, 19 more"
    ) as caught:
        pac(40)
    assert caught.value.needed == 59


def test_the_promise_of_pac_says_its_confidence() -> None:
    assert pac(100).promise == (
        "With 95 % confidence, at most 5 % of new in-distribution images are called OOD (expected 1.98 %); "
        "with 90 % chance this calibration's own rate lies between 0.3565 % and 4.656 %."
    )


def test_more_confidence_never_gives_a_higher_threshold() -> None:
    ks = [pac(500, confidence=confidence).k or 0 for confidence in (0.5, 0.9, 0.95, 0.99, 0.999)]
    assert ks == sorted(ks, reverse=True)


def test_methods_without_a_confidence_have_none() -> None:
    assert Target("split-conformal", 0.05, 0.9).confidence is None
    assert Target("paper").confidence is None


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, float("nan"), float("inf")])
def test_a_confidence_outside_zero_to_one_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidInput, match="confidence must lie between 0 and 1"):
        pac(100, confidence=confidence)


@pytest.mark.parametrize("confidence", ["0.95", [0.95], 1j])
def test_a_confidence_that_is_no_number_is_refused(confidence: Any) -> None:
    with pytest.raises(InvalidInput, match="confidence must be a number"):
        pac(100, confidence=confidence)
