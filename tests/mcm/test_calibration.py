import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from mcm.calibration import UNCALIBRATED, Calibration, Certificate, calibrate, manual
from mcm.errors import InvalidInput, TooFewScores
from mcm.scores import Floats
from mcm.thresholds import METHODS

decimal_rates = st.integers(1, 999).map(lambda thousandths: thousandths / 1000)


def certificate(scores: Sequence[float] | Floats, **options: Any) -> Certificate:
    made = calibrate(scores, "hash", **options).certificate
    assert made is not None
    return made


def shuffled(n: int) -> Floats:
    """The numbers 1 .. n, so that the k-th smallest is k."""
    return np.random.default_rng(n).permutation(np.arange(1.0, n + 1))


# ---- split-conformal


@pytest.mark.parametrize(
    ("n", "rate", "k"),
    [
        (19, 0.05, 1),
        (38, 0.05, 1),
        (39, 0.05, 2),
        (99, 0.05, 5),
        (99, 0.29, 29),  # 0.29 * 100 is 28.999999999999996 in floats
        (99, 0.57, 57),
        (99, 0.58, 58),
        (999, 0.001, 1),
        (1, 0.5, 1),
        (1, 0.999, 1),
        (10, 0.999, 10),
        (50_000, 0.05, 2500),
    ],
)
def test_the_threshold_is_the_kth_smallest_with_k_the_floor_of_rate_times_n_plus_1(
    n: int, rate: float, k: int
) -> None:
    made = certificate(shuffled(n), false_alarm_rate=rate)
    assert (made.k, made.threshold, made.n) == (k, k, n)
    assert made.expected_rate == k / (n + 1) <= rate


@given(n=st.integers(1, 3000), rate=decimal_rates)
def test_k_is_exact_for_decimal_rates(n: int, rate: float) -> None:
    expected = Fraction(round(rate * 1000), 1000) * (n + 1) // 1
    if expected == 0:
        with pytest.raises(TooFewScores):
            calibrate(shuffled(n), "hash", false_alarm_rate=rate)
    else:
        assert certificate(shuffled(n), false_alarm_rate=rate).k == expected


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (99, 0.29), (1000, 0.01), (50_000, 0.5), (10, 0.999)])
def test_the_interval_is_the_middle_90_percent_of_the_beta_law(n: int, rate: float) -> None:
    made = certificate(shuffled(n), false_alarm_rate=rate)
    assert made.k is not None
    assert made.rate_interval == pytest.approx(beta.interval(0.9, made.k, n + 1 - made.k), rel=1e-9)


def test_the_promise_says_the_numbers() -> None:
    made = certificate(shuffled(100), false_alarm_rate=0.05)
    assert made.promise == (
        "On average over calibrations, at most 5 % of new in-distribution images are called OOD (expected "
        "4.95 %); with 90 % chance this calibration's own rate lies between 1.991 % and 8.92 %."
    )


def test_a_certificate_is_complete() -> None:
    before = datetime.now(UTC)
    made = certificate([1, 2, 3], false_alarm_rate=0.5)
    assert (made.method, made.false_alarm_rate, made.n) == ("split-conformal", 0.5, 3)
    assert made.definition_hash == "hash"
    assert made.confidence is None
    assert before <= made.created_at <= datetime.now(UTC)
    assert made.created_at.tzinfo is UTC


@given(n=st.integers(0, 40), rate=st.floats(1e-4, 0.999))
def test_too_few_scores_say_the_smallest_number_that_works(n: int, rate: float) -> None:
    try:
        calibrate(np.zeros(n), "hash", false_alarm_rate=rate)
    except TooFewScores as error:
        needed = error.needed
        assert needed > n
        assert certificate(np.zeros(needed), false_alarm_rate=rate).k == 1
        with pytest.raises(TooFewScores):
            calibrate(np.zeros(needed - 1), "hash", false_alarm_rate=rate)


def test_too_few_scores_are_told_how_many_more() -> None:
    with pytest.raises(TooFewScores, match=r"12 .*5 %; at least 19 are needed, 7 more") as caught:
        calibrate(np.zeros(12), "hash")
    assert caught.value.needed == 19


def test_a_tiny_rate_asks_for_its_many_scores_instead_of_failing() -> None:
    with pytest.raises(TooFewScores) as caught:
        calibrate([0.5], "hash", false_alarm_rate=1e-12)
    assert caught.value.needed == 10**12 - 1


def test_the_realised_rate_is_on_average_k_over_n_plus_1_and_mostly_in_the_interval() -> None:
    rng = np.random.default_rng(0)
    n, runs = 59, 2000  # uniform scores: the realised rate is the threshold itself
    made = [certificate(rng.random(n), false_alarm_rate=0.1) for _ in range(runs)]
    realised = np.array([one.threshold for one in made])
    law = beta(6, 54)
    assert abs(realised.mean() - 6 / 60) < 4 * law.std() / runs**0.5
    low, high = made[0].rate_interval or (0, 0)
    inside = ((realised > low) & (realised < high)).mean()
    assert abs(inside - 0.9) < 4 * (0.09 / runs) ** 0.5


def test_scores_that_tie_call_at_most_the_promised_share_ood_and_the_promise_says_so() -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(500):
        made = certificate(rng.integers(0, 4, 39).astype(float), false_alarm_rate=0.3)
        rates.append(made.threshold / 4)  # share of the four equally likely values below the threshold
        assert "scores equal the threshold, so the rates may be lower" in (made.promise or "")
    assert np.mean(rates) <= 0.3


def test_scores_that_are_all_equal_never_call_an_equal_image_ood() -> None:
    made = calibrate(np.full(100, 0.25), "hash")
    assert made.certificate is not None
    assert made.certificate.threshold == 0.25
    assert "100 of the 100 scores equal the threshold" in (made.certificate.promise or "")
    assert made.p_values([0.25]) == [1.0]


# ---- paper


def test_the_papers_quantile_is_numpys_and_promises_nothing() -> None:
    scores = np.random.default_rng(0).random(50)
    made = certificate(scores, method="paper", false_alarm_rate=0.05)
    assert made.threshold == np.quantile(scores, 0.05)
    assert (made.k, made.expected_rate, made.rate_interval, made.confidence) == (None, None, None, None)
    assert (made.promise or "").startswith("None")


def test_the_papers_quantile_rejects_what_its_words_say_at_19_scores() -> None:
    uniform = np.random.default_rng(0).random((2000, 19))
    realised = [certificate(scores, method="paper", false_alarm_rate=0.05).threshold for scores in uniform]
    assert 0.09 < np.mean(realised) < 0.1


def test_the_papers_quantile_of_one_score_is_that_score() -> None:
    assert certificate([0.7], method="paper").threshold == 0.7


def test_the_papers_quantile_needs_a_score() -> None:
    with pytest.raises(TooFewScores) as caught:
        calibrate([], "hash", method="paper")
    assert caught.value.needed == 1


# ---- any method


@pytest.mark.parametrize("method", METHODS)
@given(scores=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30), rate=decimal_rates)
def test_every_method_gives_a_threshold_within_the_scores_or_says_how_many_it_needs(
    method: str, scores: list[float], rate: float
) -> None:
    try:
        made = certificate(scores, method=method, false_alarm_rate=rate)
    except TooFewScores as error:
        made = certificate([scores[0]] * error.needed, method=method, false_alarm_rate=rate)
    assert min(scores) <= made.threshold <= max(scores)
    assert type(made.threshold) is float


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_scores_does_not_matter(method: str) -> None:
    scores = np.random.default_rng(2).random(99)
    one, other = certificate(scores, method=method), certificate(scores[::-1], method=method)
    assert dataclasses.replace(one, created_at=other.created_at) == other


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [[0.5, float("nan")], [float("inf")], [[0.1, 0.2]], ["x"], 0.5])
def test_scores_that_are_no_list_of_finite_numbers_are_refused(method: str, bad: Any) -> None:
    with pytest.raises(InvalidInput, match="calibration scores must be"):
        calibrate(bad, "hash", method=method)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match="false_alarm_rate must lie between 0 and 1"):
        calibrate(np.zeros(100), "hash", false_alarm_rate=rate)


@pytest.mark.parametrize("rate", ["0.05", [0.05], 1j])
def test_a_rate_that_is_no_number_is_refused(rate: Any) -> None:
    with pytest.raises(InvalidInput, match="false_alarm_rate must be a number, not"):
        calibrate(np.zeros(100), "hash", false_alarm_rate=rate)


@pytest.mark.parametrize("method", ["magic", 1, ["paper"]])
def test_an_unknown_method_is_refused_with_the_choices(method: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"no calibration method .*; choose one of split-conformal, pac, paper"
    ):
        calibrate(np.zeros(100), "hash", method=method)


def test_numpy_rates_are_taken_too() -> None:
    made = certificate(shuffled(99), false_alarm_rate=np.float64(0.29))
    assert made.k == 29
    assert type(made.false_alarm_rate) is float


# ---- manual


def test_a_manual_threshold_promises_nothing() -> None:
    made = manual(np.float32(0.5), "hash")  # type: ignore[arg-type]
    assert made.certificate is not None
    assert type(made.certificate.threshold) is float
    known = {"threshold": 0.5, "method": "manual", "n": 0, "definition_hash": "hash", "concepts": ()}
    values = dataclasses.asdict(made.certificate)
    assert values.pop("created_at").tzinfo is UTC
    assert values == {**dict.fromkeys(values), **known}
    assert made.p_values([0.1]) is None


def test_a_manual_threshold_keeps_the_scores_and_their_p_values() -> None:
    calibrated = calibrate([3, 1, 2], "hash", false_alarm_rate=0.5)
    made = manual(-7, "hash", calibrated.scores)
    assert made.certificate is not None
    assert made.certificate.n == 3
    np.testing.assert_array_equal(made.p_values([2]), calibrated.p_values([2]))


def test_a_manual_threshold_keeps_unsorted_scores_in_order() -> None:
    np.testing.assert_array_equal(manual(0, "hash", [3, 1, 2]).scores, [1, 2, 3])


@pytest.mark.parametrize("threshold", ["x", "0.5", None, [0.5], 1j])
def test_a_manual_threshold_must_be_a_number(threshold: Any) -> None:
    with pytest.raises(InvalidInput, match="threshold must be a number, not"):
        manual(threshold, "hash")


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_manual_threshold_must_be_finite(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="threshold must be a finite number"):
        manual(threshold, "hash")


# ---- p-values


def test_p_values_worked_by_hand_with_ties() -> None:
    calibration = calibrate([0.2, 0.1, 0.2, 0.4], "hash", false_alarm_rate=0.5)
    p = calibration.p_values([0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 9])
    assert p is not None
    assert p.tolist() == [1 / 5, 2 / 5, 2 / 5, 4 / 5, 4 / 5, 1, 1]


values = st.integers(-3, 3).map(float) | st.floats(-1, 1)


@given(calibration=st.lists(values, min_size=1, max_size=20), scores=st.lists(values, max_size=8))
def test_p_values_follow_their_formula(calibration: list[float], scores: list[float]) -> None:
    p = Calibration(np.array(calibration)).p_values(scores)
    n = len(calibration)
    expected = [(1 + sum(c <= s for c in calibration)) / (n + 1) for s in scores]
    assert p is not None
    assert p.tolist() == expected


@given(scores=st.lists(values, min_size=1, max_size=60), rate=decimal_rates)
def test_a_score_is_ood_under_split_conformal_only_if_its_p_value_is_at_most_the_rate(
    scores: list[float], rate: float
) -> None:
    try:
        calibration = calibrate(scores, "hash", false_alarm_rate=rate)
    except TooFewScores:
        return
    assert calibration.certificate is not None
    p = calibration.p_values(scores)
    assert p is not None
    ood = np.array(scores) < calibration.certificate.threshold
    assert (p[ood] <= rate).all()


def test_negative_zero_and_zero_are_one_score() -> None:
    p = Calibration(np.array([-0.0, 1.0])).p_values([0.0, -0.0])
    assert p is not None
    assert p[0] == p[1] == 2 / 3


def test_without_scores_there_are_no_p_values_and_no_threshold() -> None:
    assert UNCALIBRATED.p_values([0.5]) is None
    assert UNCALIBRATED.certificate is None


def test_a_calibrations_scores_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Calibration(np.array([1.0])).scores[0] = 2


def test_a_calibration_leaves_the_callers_scores_alone() -> None:
    scores = np.array([2.0, 1.0])
    Calibration(scores)
    scores[0] = 3
    assert scores.tolist() == [3.0, 1.0]
