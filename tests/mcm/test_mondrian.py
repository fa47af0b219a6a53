"""Thresholds and p-values by concept, and what the other concepts share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mcm.calibration import Calibration, Certificate, calibrate, manual
from mcm.definition import define
from mcm.detector import Detector
from mcm.errors import InvalidInput
from mcm.mondrian import Groups
from mcm.scores import Floats

# with a rate of 0.25, three scores make a threshold: the smallest of them
CATS, DOGS, RARE = [7.0, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0]
SCORES = CATS + DOGS + RARE
CONCEPTS = ["cat"] * 3 + ["dog"] * 4 + ["owl"] + ["elk"]


def by_concept(
    scores: Sequence[float] | Floats = SCORES, concepts: Sequence[str] = CONCEPTS, **options: Any
) -> Calibration:
    given: dict[str, Any] = {"false_alarm_rate": 0.25, "concepts": concepts} | options
    return calibrate(scores, "hash", **given)


def certificate(calibration: Calibration) -> Certificate:
    assert calibration.certificate is not None
    return calibration.certificate


def test_concepts_with_enough_scores_have_thresholds_of_their_own_and_the_others_share_one() -> None:
    made = certificate(by_concept())
    found = {entry.concept: (entry.threshold, entry.n, entry.k) for entry in made.concepts}
    assert found == {"cat": (7, 3, 1), "dog": (1, 4, 1), None: (5, 5, 1)}  # the cats' count is just enough
    assert [made.threshold_for(name) for name in ("cat", "dog", "owl", "elk", "new")] == [7, 1, 5, 5, 5]


def test_the_certificates_other_fields_are_those_of_all_scores_together() -> None:
    made, plain = certificate(by_concept()), certificate(calibrate(SCORES, "hash", false_alarm_rate=0.25))
    for name in ("threshold", "n", "k", "expected_rate", "rate_interval", "false_alarm_rate"):
        assert getattr(made, name) == getattr(plain, name)


def test_p_values_count_within_the_images_own_pool() -> None:
    p = by_concept().p_values([7.5, 7.5, 7.5, 0], ["cat", "dog", "owl", "dog"])
    assert p is not None
    assert p.tolist() == [2 / 4, 5 / 5, 4 / 6, 1 / 5]


def test_the_smallest_p_values_are_those_of_the_pools() -> None:
    smallest = by_concept().smallest_p_values(3, ["cat", "dog", "owl"])
    assert smallest is not None
    assert smallest.tolist() == [1 / 4, 1 / 5, 1 / 6]


def test_too_few_others_are_judged_among_all() -> None:
    made = by_concept([*DOGS, *RARE], ["dog"] * 4 + ["owl", "elk"])
    assert [entry.concept for entry in certificate(made).concepts] == ["dog"]
    assert certificate(made).threshold_for("owl") == certificate(made).threshold == 1
    assert made.smallest_p_values(1, ["owl"]) == [1 / 7]
    assert "promises nothing for them alone" in (certificate(made).promise or "")


def test_without_any_concept_that_has_enough_all_are_judged_together() -> None:
    made = by_concept([1.0, 2, 3, 4], list("abcd"))
    assert certificate(made).concepts == ()
    assert made.smallest_p_values(1, ["a"]) == [1 / 5]
    assert "No concept has the 3 scores" in (certificate(made).promise or "")


def test_the_promise_says_for_whom_it_holds() -> None:
    assert certificate(by_concept()).promise == (
        "Per concept, on average over calibrations, at most 25 % of the new in-distribution images that "
        "resemble it most are called OOD. 2 of the concepts have thresholds of their own. The others share "
        "one, made of 5 scores, with the same promise."
    )
    sure = certificate(by_concept(method="pac", false_alarm_rate=0.75, confidence=0.75)).promise or ""
    assert sure.startswith("Per concept, for each with 75 % confidence, at most 75 % of")


def test_a_detector_judges_an_image_by_its_concept() -> None:
    definition = define(["cat", "dog"], score="max-logit")
    matrix = np.eye(2, dtype=np.float32)
    calibration = by_concept([0.9, 0.95, 1.0, 0.5, 0.6, 0.7], ["cat"] * 3 + ["dog"] * 3)
    detector = Detector(definition, "encoder", matrix, calibration)
    cat, dog = detector.judge(np.array([[0.8, 0.6], [0.6, 0.8]], dtype=np.float32))
    assert (cat.concept, cat.threshold, cat.is_ood, cat.p_value) == ("cat", 0.9, True, 1 / 4)
    assert (dog.concept, dog.threshold, dog.is_ood, dog.p_value) == ("dog", 0.5, False, 1.0)


def test_each_category_keeps_its_promise_whatever_chance_makes_of_the_counts() -> None:
    """Exact, also for the shared pool: the concepts differ wildly, and often just miss their own pool."""
    rng = np.random.default_rng(0)
    levels, runs, rate = np.arange(6) * 10.0, 4000, 0.25
    alarms, images = {"own": 0, "shared": 0}, {"own": 0, "shared": 0}
    for _ in range(runs):
        concepts = rng.choice(6, 16, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
        scores = levels[concepts] + rng.random(16)
        names = [str(c) for c in concepts]
        made = certificate(by_concept(scores[:-1], names[:-1]))
        own = {entry.concept for entry in made.concepts}
        if None not in own:
            continue
        kind = "own" if names[-1] in own else "shared"
        images[kind] += 1
        alarms[kind] += scores[-1] < made.threshold_for(names[-1])
    for kind, count in images.items():
        assert count > 400
        assert alarms[kind] / count <= rate + 3 * (rate * (1 - rate) / count) ** 0.5


def test_scores_are_added_with_their_concepts_and_lift_a_concept_over_the_mark() -> None:
    added = by_concept([5.5, 5.7], ["owl", "owl"], append_to=by_concept(), false_alarm_rate=None)
    assert certificate(added).false_alarm_rate == 0.25
    assert certificate(added).threshold_for("owl") == 5
    assert added.scores.tolist() == sorted([*SCORES, 5.5, 5.7])
    together = by_concept([*SCORES, 5.5, 5.7], [*CONCEPTS, "owl", "owl"])
    assert certificate(added).concepts == certificate(together).concepts


def test_a_threshold_by_hand_keeps_the_p_values_by_concept() -> None:
    before = by_concept()
    after = manual(0.5, "hash", before.scores, before.groups)
    for name in ("cat", "dog", "owl"):
        assert after.p_values([6.5], [name]) == before.p_values([6.5], [name])
    assert certificate(after).threshold_for("cat") == 0.5


def test_adding_by_concept_to_scores_without_concepts_is_refused_and_the_other_way_round() -> None:
    plain = calibrate(SCORES, "hash", false_alarm_rate=0.25)
    with pytest.raises(InvalidInput, match="with all its scores or with none"):
        by_concept(append_to=plain)
    with pytest.raises(InvalidInput, match="with all its scores or with none"):
        calibrate(SCORES, "hash", append_to=by_concept())


@pytest.mark.parametrize("concepts", [["cat"], "catsanddog", [1] * 9, [None] * 9])
def test_concepts_that_do_not_go_with_the_scores_are_refused(concepts: Any) -> None:
    with pytest.raises(InvalidInput, match="concepts"):
        by_concept(concepts=concepts)
    with pytest.raises(InvalidInput, match="concepts"):
        Calibration(np.zeros(9), None, Groups(tuple(concepts)[:8], 3))


def test_p_values_by_concept_need_the_concepts() -> None:
    with pytest.raises(InvalidInput, match="need the images' concepts"):
        by_concept().p_values([1.0])


def test_the_papers_quantile_is_not_made_per_concept() -> None:
    with pytest.raises(InvalidInput, match="promises nothing"):
        by_concept(method="paper")
