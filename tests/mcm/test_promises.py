"""The promises, kept on real ImageNet scores, with the first seed; benchmarks.promises has 20 others."""

import numpy as np
import pytest

from benchmarks.promises import (
    CONTAMINATIONS,
    PAC_RANKS,
    RATE,
    batch_claims,
    batches,
    read_scores,
    realised_rates,
    storey_shares,
    threshold_claims,
)
from mcm.calibration import Calibration
from mcm.fdr import ood_share
from mcm.scores import Floats
from tests.shared import shared

SEED = 0
Scores = tuple[Floats, dict[str, Floats]]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return read_scores(shared("published_scores/ViT-B-16_mcm.npz"))


def test_split_conformal_calls_k_of_n_plus_1_ood_on_average_and_pac_breaks_its_rate_as_often_as_it_says(
    scores: Scores,
) -> None:
    claims = list(threshold_claims(scores[0], SEED))
    assert len(claims) == 2 * len(PAC_RANKS)
    assert [claim for claim in claims if not claim.holds] == []


def test_the_empirical_quantile_breaks_the_promise_that_the_others_keep(scores: Scores) -> None:
    known, _ = scores
    naive = realised_rates(known, 19, "paper", SEED)
    kept = realised_rates(known, 19, "split-conformal", SEED)
    error = naive.std(ddof=1) / naive.size**0.5
    assert naive.mean() == pytest.approx(0.093, abs=3 * error)
    assert naive.mean() > RATE + 3 * error
    assert kept.mean() <= RATE + 3 * kept.std(ddof=1) / kept.size**0.5


def test_the_false_discovery_rate_and_storeys_share_stay_below_what_they_bound(scores: Scores) -> None:
    claims = list(batch_claims(*scores, SEED))
    assert len(claims) == 4 * 3 * (2 * 2 + 1)
    assert [claim for claim in claims if not claim.holds] == []


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
def test_storeys_share_of_inaturalist_is_near_the_truth(scores: Scores, contamination: float) -> None:
    known, ood = scores
    p, _ = batches(known, ood["iNaturalist"], contamination, SEED)
    shares = storey_shares(p)
    assert abs(shares.mean() - contamination) <= 0.015
    assert (shares <= contamination + 3 * shares.std(ddof=1)).all()


def test_a_sets_p_values_against_itself_cannot_show_contamination(scores: Scores) -> None:
    """Why the share is asked of the scores before, never of the set's own."""
    known, ood = scores
    mixed = np.concatenate([known[:500], ood["iNaturalist"][:500]])
    assert share_of(mixed, against=mixed) == pytest.approx(0, abs=0.01)
    assert share_of(mixed, against=known[500:1500]) > 0.4


def share_of(scores: Floats, *, against: Floats) -> float:
    p = Calibration(against).p_values(scores)
    assert p is not None
    return ood_share(p) or 0
