"""Drift: the martingale is one, its alarm keeps its promise on real scores, and counts are true."""

import json
from dataclasses import asdict, replace
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from benchmarks.drift import STREAMS, delays, false_alarms
from benchmarks.promises import read_scores
from mcm.calibration import UNCALIBRATED, Calibration, calibrate, manual
from mcm.drift import (
    FALSE_ALARM,
    RECENT,
    Bins,
    Counts,
    Drift,
    Tally,
    advance,
    begin,
    bins_of,
    rejected_band,
)
from mcm.errors import NotCalibrated
from mcm.fdr import ood_share
from mcm.scores import Floats
from tests.shared import shared

sizes = st.integers(1, 300)
seeds = st.integers(0, 2**32 - 1)


def watched(bins: Bins, scores: Floats, after: Drift | None = None, threshold: float = 0.0) -> Drift:
    return advance(bins, after or begin(bins), bins.locate(scores), scores < threshold)


def in_bins(bins: Bins, places: Counts) -> Drift:
    return advance(
        bins,
        begin(bins),
        np.stack([places, places], axis=1).astype(np.uint8),
        np.zeros(len(places), dtype=bool),
    )


def uniform(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(n)


# ---- bins


@given(sizes)
def test_the_bins_share_all_gaps_between_calibration_scores(n: int) -> None:
    bins = bins_of(Calibration(uniform(n)))
    assert bins.gaps.sum() == n + 1
    assert (bins.gaps > 0).all()
    assert len(bins.edges) == len(bins.ties) == len(bins.gaps) - 1
    assert (np.diff(bins.edges) >= 0).all()


@given(sizes, seeds)
def test_the_calibration_scores_fill_the_bins_as_their_gaps_say(n: int, seed: int) -> None:
    scores = np.sort(uniform(n, seed))
    bins = bins_of(Calibration(scores))
    middles = np.concatenate([[-1.0], (scores[1:] + scores[:-1]) / 2, [2.0]])  # one in each gap
    located = bins.locate(middles)
    assert (located[:, 0] == located[:, 1]).all()
    assert np.bincount(located[:, 0], minlength=len(bins.gaps)).tolist() == bins.gaps.tolist()


def test_scores_that_tie_with_calibration_scores_are_spread_over_their_gaps() -> None:
    bins = bins_of(Calibration(np.full(1000, 0.5)))
    drift = watched(bins, np.full(20_000, 0.5))
    shares = np.array(drift.seen) / drift.images
    assert shares == pytest.approx(bins.gaps / bins.gaps.sum(), abs=0.03)
    assert drift.alarm_after is None


def test_without_calibration_scores_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(NotCalibrated, match="calibrate with in-distribution images"):
        bins_of(manual(0.5, "hash"))


# ---- the martingale


@given(sizes, st.lists(st.integers(0, 1000), max_size=60))
def test_the_wealth_to_expect_after_the_next_image_is_the_wealth_now(n: int, fallen: list[int]) -> None:
    bins = bins_of(Calibration(uniform(n)))
    count = len(bins.gaps)
    drift = in_bins(bins, np.array(fallen, dtype=np.int64) % count)
    chances = (bins.gaps + drift.seen) / (n + 1 + len(fallen))
    nexts = [np.array([[j, j]], dtype=np.uint8) for j in range(count)]
    after = [exp(advance(bins, drift, place, np.array([False])).log_wealth) for place in nexts]
    assert chances.sum() == pytest.approx(1)
    assert chances @ after == pytest.approx(exp(drift.log_wealth), rel=1e-9)


def test_the_wealth_begins_at_1() -> None:
    assert begin(bins_of(Calibration(uniform(100)))).log_wealth == pytest.approx(0, abs=1e-12)


def test_the_chances_are_those_of_exchangeable_images() -> None:
    # Of the 2nd image given the bin of the 1st, over many calibration sets of 9: (c_j + seen_j) / 11.
    rng = np.random.default_rng(0)
    counts = np.zeros(2)
    for _ in range(20_000):
        scores = rng.random(11)
        bins = bins_of(Calibration(scores[:9]))
        first, second = bins.locate(scores[9:])[:, 0]
        if first == 0:
            counts += [second == 0, 1]
    expected = (bins.gaps[0] + 1) / 11
    error = (expected * (1 - expected) / counts[1]) ** 0.5
    assert counts[0] / counts[1] == pytest.approx(expected, abs=4 * error)


@given(seeds, st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_how_the_images_are_cut_into_blocks_changes_nothing(seed: int, lengths: list[int]) -> None:
    bins = bins_of(Calibration(uniform(100, seed)))
    scores = uniform(sum(lengths), seed + 1) ** 1.2
    cut = None
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        cut = watched(bins, scores[end - length : end], cut, 0.05)
    assert cut is not None
    whole = watched(bins, scores, None, 0.05)
    assert replace(cut, log_wealths=()) == replace(whole, log_wealths=())
    assert cut.log_wealths == pytest.approx(whole.log_wealths, abs=1e-9)


def test_the_same_images_after_the_same_state_give_the_same_state_also_where_they_tie() -> None:
    bins = bins_of(Calibration(np.full(50, 0.5)))
    scores = np.full(500, 0.5)
    assert watched(bins, scores) == watched(bins, scores)


def test_the_state_goes_through_json_to_the_last_bit() -> None:
    drift = watched(bins_of(Calibration(uniform(100))), uniform(2500, 1))
    data = json.loads(json.dumps(asdict(drift)))
    assert tuple(data["log_wealths"]) == drift.log_wealths
    assert tuple(data["seen"]) == drift.seen


@pytest.mark.parametrize("power", [2.0, 0.5], ids=["lower", "higher"])
def test_scores_that_move_either_way_raise_the_alarm_which_stays(power: float) -> None:
    bins = bins_of(Calibration(uniform(1000)))
    calm = watched(bins, uniform(2000, 1))
    assert calm.alarm_after is None
    moved = watched(bins, uniform(2000, 2) ** power, calm)
    assert moved.alarm_after is not None
    assert 2000 < moved.alarm_after < 2300
    assert watched(bins, uniform(3000, 3), moved).alarm_after == moved.alarm_after


def test_the_alarm_is_raised_at_the_image_that_brings_the_wealth_to_1_over_delta() -> None:
    bins = bins_of(Calibration(uniform(1000)))
    scores = uniform(1000, 1) ** 3
    after = watched(bins, scores).alarm_after
    assert after is not None
    assert (
        watched(bins, scores[: after - 1]).log_wealth
        < -log(FALSE_ALARM)
        <= watched(bins, scores[:after]).log_wealth
    )


def test_wealth_beyond_all_floats_is_kept_as_its_logarithm() -> None:
    bins = bins_of(Calibration(uniform(10_000)))
    drift = watched(bins, np.full(20_000, -1.0))
    assert 1_000 < drift.log_wealth < 1e6
    assert np.isfinite(drift.log_wealths).all()


# ---- shares


def test_the_recent_images_are_the_last_1000_to_2000() -> None:
    bins = bins_of(Calibration(uniform(100)))
    drift = None
    for images in range(1, 4 * RECENT, 7):
        drift = watched(bins, uniform(7, images), drift)
        recent = drift.recent.images
        assert recent == drift.images if drift.images <= RECENT else RECENT <= recent < 2 * RECENT + 1


def test_the_rejected_share_is_of_the_recent_images() -> None:
    bins = bins_of(Calibration(uniform(100)))
    scores = np.concatenate([np.zeros(5 * RECENT), np.ones(2 * RECENT)])
    drift = watched(bins, scores, None, 0.5)
    assert drift.recent == Tally(2 * RECENT, 0, 2 * RECENT)
    assert drift.recent.rejected_share == 0
    assert watched(bins, scores[: RECENT // 2], None, 0.5).recent.rejected_share == 1


@given(sizes, st.integers(1, 999), seeds)
def test_the_ood_share_is_storeys_of_the_p_values(n: int, m: int, seed: int) -> None:
    calibration = Calibration(uniform(n, seed))
    scores = uniform(m, seed + 1) ** 2
    p = calibration.p_values(scores)
    assert p is not None
    assert watched(bins_of(calibration), scores).recent.ood_share == pytest.approx(ood_share(p), abs=1e-12)


def test_without_images_there_are_no_shares() -> None:
    nothing = begin(bins_of(Calibration(uniform(10)))).recent
    assert (nothing.images, nothing.rejected_share, nothing.ood_share) == (0, None, None)


@pytest.mark.parametrize(("n", "k", "m"), [(100, 5, 100), (19, 1, 7), (1000, 50, 2000)])
def test_the_band_is_the_beta_binomial_one_of_the_thresholds_rank(n: int, k: int, m: int) -> None:
    band = rejected_band(calibrate(uniform(n), "hash", false_alarm_rate=k / (n + 1) + 1e-9), m)
    law = betabinom(m, k, n + 1 - k)
    assert band == (law.ppf(0.025) / m, law.ppf(0.975) / m)


def test_the_rejected_share_of_id_images_lies_in_the_band_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        scores = rng.random(150)
        calibration = calibrate(scores[:100], "hash")
        assert calibration.certificate is not None
        low, high = rejected_band(calibration, 50) or (1, 0)
        inside.append(low <= (scores[100:] < calibration.certificate.threshold).mean() <= high)
    assert np.mean(inside) >= 0.95 - 3 * (0.95 * 0.05 / 2000) ** 0.5


def test_a_threshold_set_by_hand_has_a_band_around_the_calibration_scores_below_it() -> None:
    law = betabinom(1000, 101, 900)
    band = rejected_band(manual(0.1, "hash", np.arange(1000) / 1000), 1000)
    assert band == (law.ppf(0.025) / 1000, law.ppf(0.975) / 1000)


@pytest.mark.parametrize("threshold", [-1.0, 2.0])
def test_a_threshold_beyond_all_calibration_scores_has_a_band_too(threshold: float) -> None:
    low, high = rejected_band(manual(threshold, "hash", uniform(100)), 100) or (1, 0)
    assert 0 <= low < high <= 1


def test_there_is_no_band_without_images_threshold_or_scores_or_with_a_threshold_for_each_concept() -> None:
    calibration = calibrate(uniform(100), "hash")
    by_concept = calibrate(uniform(100), "hash", concepts=["cat", "dog"] * 50)
    assert by_concept.certificate is not None
    assert by_concept.certificate.concepts
    assert rejected_band(calibration, 0) is None
    assert rejected_band(Calibration(calibration.scores), 10) is None
    assert rejected_band(manual(0.5, "hash"), 10) is None
    assert rejected_band(UNCALIBRATED, 10) is None
    assert rejected_band(by_concept, 10) is None


# ---- real scores


@pytest.fixture(scope="module")
def scores() -> tuple[Floats, dict[str, Floats]]:
    return read_scores(shared("published_scores/ViT-B-16_mcm.npz"))


@pytest.mark.parametrize("n", [100, 1000])
def test_of_1000_streams_of_id_images_no_more_than_promised_alarm(
    scores: tuple[Floats, dict[str, Floats]], n: int
) -> None:
    error = (FALSE_ALARM * (1 - FALSE_ALARM) / STREAMS) ** 0.5
    assert false_alarms(scores[0], n, seed=0) / STREAMS <= FALSE_ALARM + 3 * error


def test_a_fifth_of_inaturalist_is_found_within_some_hundred_images(
    scores: tuple[Floats, dict[str, Floats]],
) -> None:
    found = delays(scores[0], scores[1]["iNaturalist"], 1000, 0, 0.2, seed=0)
    assert np.median(found) < 200
    assert np.isfinite(found).mean() > 0.95
