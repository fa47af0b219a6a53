import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.errors import InvalidInput
from mcm.metrics import Metrics, fpr95, fpr95_ood_positive, metrics
from tests.shared import shared

PUBLISHED = ["ViT-B-16_mcm", "ViT-B-16_gl-mcm", "ViT-L-14_mcm", "ViT-L-14_gl-mcm"]
EXPECTED_NAMES = {"fpr95": "fpr95_id_positive", "fpr95_ood_positive": "fpr95_ood_positive"}

scores = st.lists(st.integers(0, 6).map(float) | st.floats(-2, 2), min_size=1, max_size=40)


def published(name: str, ood_set: str) -> tuple[np.ndarray, np.ndarray]:
    data = np.load(shared(f"published_scores/{name}.npz"))
    return data["id_ImageNet1K"].astype(np.float64), data[f"ood_{ood_set}"].astype(np.float64)


# ---- agreement with the authors' code and with published scores


@pytest.mark.parametrize("name", ["small", "medium"])
def test_metrics_of_the_golden_scores_are_the_authors(name: str) -> None:
    for temperature, by_score in json.loads(shared(f"golden/{name}.json").read_text()).items():
        for score, golden in by_score.items():
            assert_agree(metrics(golden["id"], golden["ood"]), golden["metrics"], (temperature, score))


@pytest.mark.parametrize("case", ["ties", "tiny", "equal", "perfect", "reversed"])
def test_metrics_of_awkward_scores_are_the_authors(case: str) -> None:
    golden = json.loads(shared("golden/metrics.json").read_text())[case]
    assert_agree(metrics(golden["id"], golden["ood"]), golden["metrics"], case)


@pytest.mark.parametrize("name", PUBLISHED)
def test_metrics_of_the_published_scores_are_the_published(name: str) -> None:
    expected = json.loads(shared("published_scores/expected.json").read_text())[name]
    assert len(expected["sets"]) == 4
    for ood_set, values in expected["sets"].items():
        id_, ood = published(name, ood_set)
        assert (id_.size, ood.size) == (expected["n_id"], values["n"])
        renamed = {field: values[EXPECTED_NAMES.get(field, field)] for field in FIELDS}
        assert_agree(metrics(id_, ood), renamed, ood_set)


def test_the_published_averages_are_those_that_the_design_quotes() -> None:
    made = [metrics(*published("ViT-B-16_mcm", name)) for name in ("iNaturalist", "Sun", "Places", "Texture")]
    assert round(100 * np.mean([m.fpr95 for m in made]), 2) == 43.09
    assert round(100 * np.mean([m.fpr95_ood_positive for m in made]), 2) == 37.22
    assert round(100 * np.mean([m.auroc for m in made]), 2) == 90.74


def test_rounding_the_scores_ruins_fpr95() -> None:
    """Why scores are float64 and JSON carries every digit."""

    def at_first_recall_of_95(id_: np.ndarray, ood: np.ndarray) -> float:
        threshold = np.sort(id_)[id_.size // 20]  # the largest that accepts 95 % of ID
        return round(100 * float((ood >= threshold).mean()))

    id_, ood = published("ViT-B-16_mcm", "iNaturalist")
    assert at_first_recall_of_95(id_, ood) == 32
    assert at_first_recall_of_95(id_.round(5), ood.round(5)) == 54
    assert fpr95(id_.round(4), ood.round(4)) > 0.999
    assert np.unique(id_.astype(np.float16)).size < 250


# ---- worked by hand

FIELDS = [field.name for field in dataclasses.fields(Metrics)]


def assert_agree(made: Metrics, expected: dict[str, Any], where: object) -> None:
    assert expected
    for name, value in expected.items():
        assert getattr(made, name) == pytest.approx(value, abs=1e-9), (where, name)


def test_ties_count_half_in_auroc() -> None:
    # pairs (3,2) (3,1) (2,2) (2,1): three won, one tied
    assert metrics([3, 2], [2, 1]).auroc == 3.5 / 4


def test_average_precision_takes_a_tie_as_one_step() -> None:
    # at >= 3: precision 1, recall 1/2; at >= 2: precision 2/3, recall 1
    assert metrics([3, 2], [2, 1]).aupr == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_perfect_scores() -> None:
    assert metrics([2, 3], [0, 1]) == Metrics(auroc=1, aupr=1, fpr95=0, fpr95_ood_positive=0)


def test_reversed_scores() -> None:
    made = metrics([0, 1], [2, 3])
    assert (made.auroc, made.fpr95, made.fpr95_ood_positive) == (0, 1, 1)


def test_scores_that_are_all_equal() -> None:
    made = metrics([1, 1, 1], [1])
    assert made == Metrics(auroc=0.5, aupr=0.75, fpr95=1, fpr95_ood_positive=1)


def test_fpr95_accepts_at_the_threshold_where_recall_is_95_percent() -> None:
    id_ = np.arange(1, 21)  # >= 2 accepts 19 of 20
    assert fpr95(id_, [0, 1]) == 0
    assert fpr95(id_, [0, 1, 2]) == 1 / 3
    assert fpr95(id_, [0, 1, 2.5, 30]) == 2 / 4


def test_fpr95_takes_the_lowest_of_the_thresholds_with_that_recall() -> None:
    # from 1 (exclusive) up to 2 the recall is 19 / 20: the OOD score 1.5 is the lowest threshold
    assert fpr95(np.arange(1, 21), [1.5, 1.7, 0]) == 2 / 3


def test_fpr95_never_goes_below_the_lowest_id_score() -> None:
    # with three ID images the nearest recall is 1, which every threshold up to 0.7 has
    assert fpr95([0.9, 0.8, 0.7], [0.1, 0.75]) == 1 / 2


def test_fpr95_with_ties_at_the_threshold() -> None:
    # recall jumps from 1 at 0 to 94 % at 1, which is nearer to 95 %
    assert fpr95([0] * 6 + [1] * 94, [0, 1, 1, 1]) == 3 / 4


def test_fpr95_ood_positive_rejects_at_the_threshold_that_first_catches_95_percent() -> None:
    ood = np.arange(1, 21)  # <= 19 catches 19 of 20
    assert fpr95_ood_positive([18, 19, 19.5, 30], ood) == 2 / 4
    assert fpr95_ood_positive([1.5, 2.5], [1, 2]) == 1 / 2  # both must be caught


def test_fpr95_ood_positive_with_ties_catches_all_of_the_tie() -> None:
    ood = [0] * 90 + [1] * 10  # 90 % at 0, so the threshold is 1
    assert fpr95_ood_positive([0, 0.5, 1, 2], ood) == 3 / 4


@given(id_=scores, ood=scores)
def test_fpr95_ood_positive_follows_its_definition(id_: list[float], ood: list[float]) -> None:
    caught = [t for t in sorted(ood) if 20 * sum(s <= t for s in ood) >= 19 * len(ood)]
    expected = sum(s <= caught[0] for s in id_) / len(id_)
    assert fpr95_ood_positive(id_, ood) == pytest.approx(expected, abs=1e-15)


@given(id_=scores, ood=scores)
def test_fpr95_follows_its_definition(id_: list[float], ood: list[float]) -> None:
    thresholds = sorted({t for t in id_ + ood if t >= min(id_)})
    best = min(thresholds, key=lambda t: abs(sum(s >= t for s in id_) / len(id_) - 0.95))
    assert fpr95(id_, ood) == pytest.approx(sum(s >= best for s in ood) / len(ood), abs=1e-15)


@given(id_=scores, ood=scores)
def test_metrics_lie_within_zero_and_one_and_do_not_depend_on_order(
    id_: list[float], ood: list[float]
) -> None:
    made = metrics(id_, ood)
    assert all(0 <= value <= 1 for value in dataclasses.astuple(made))
    for name, value in dataclasses.asdict(metrics(id_[::-1], ood[::-1])).items():
        assert value == pytest.approx(getattr(made, name), abs=1e-12)


@given(id_=scores, ood=scores)
def test_only_the_ranking_counts(id_: list[float], ood: list[float]) -> None:
    ranks = {score: rank for rank, score in enumerate(sorted({*id_, *ood}))}
    ranked = metrics([ranks[s] for s in id_], [ranks[s] for s in ood])
    assert ranked == metrics(id_, ood)


# ---- what is refused


@pytest.mark.parametrize("measure", [metrics, fpr95, fpr95_ood_positive])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([], "must not be empty"),
        ([float("nan")], "finite"),
        ([[1.0, 2.0]], "one an image"),
        (["x"], "numbers"),
    ],
)
def test_scores_that_cannot_be_measured_are_refused_by_side(measure: Any, bad: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"ID scores must .*{reason}|ID scores {reason}"):
        measure(bad, [1.0])
    with pytest.raises(InvalidInput, match=f"OOD scores must .*{reason}|OOD scores {reason}"):
        measure([1.0], bad)
