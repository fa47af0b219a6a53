"""Judging with hand-written vectors: no encoder anywhere."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mcm.calibration import Calibration, calibrate, manual
from mcm.definition import Definition, define
from mcm.detector import Detector, Match, best_first
from mcm.embeddings import Vectors, unit_rows
from mcm.errors import EncoderMismatch, InvalidEmbeddings, InvalidInput, NotCalibrated
from mcm.scores import SCORES, Floats

CAT, DOG = [1.0, 0.0], [0.0, 1.0]
E = float(np.e)


def detector(definition: Definition | None = None, calibration: Calibration | None = None) -> Detector:
    """Two concepts along the axes, so that an image's similarities are its coordinates."""
    made = Detector(definition or define(["cat", "dog"]), "f", unit_rows([CAT, DOG]))
    return made if calibration is None else dataclasses.replace(made, calibration=calibration)


def random_detector(k: int = 7, dim: int = 40, score: str = "mcm") -> Detector:
    matrix = unit_rows(np.random.default_rng(0).standard_normal((k, dim)))
    return Detector(define([f"c{i}" for i in range(k)], score=score), "f", matrix)


def random_images(n: int, dim: int = 40) -> Vectors:
    return unit_rows(np.random.default_rng(1).standard_normal((n, dim)))


# ---- one verdict


def test_a_verdict_worked_by_hand() -> None:
    (verdict,) = detector().judge(unit_rows([CAT]))
    assert verdict.score == pytest.approx(E / (E + 1), rel=1e-15)
    assert verdict.lift == 2 * verdict.score
    assert verdict.concept == "cat"
    assert [(m.concept, m.similarity) for m in verdict.top] == [("cat", 1.0), ("dog", 0.0)]
    assert [m.probability for m in verdict.top] == pytest.approx([E / (E + 1), 1 / (E + 1)])
    assert (verdict.p_value, verdict.threshold, verdict.is_ood) == (None, None, None)


def test_the_temperature_sharpens_score_and_probabilities() -> None:
    (verdict,) = detector(define(["cat", "dog"], temperature=0.5)).judge(unit_rows([CAT]))
    assert verdict.score == verdict.top[0].probability == pytest.approx(E**2 / (E**2 + 1))


OF_SIMILARITIES = [name for name, score in SCORES.items() if not (score.local or score.negatives)]


@pytest.mark.parametrize("score", OF_SIMILARITIES)
def test_every_score_is_the_scores_function_of_the_similarities(score: str) -> None:
    judge, images = random_detector(score=score), random_images(5)
    expected = SCORES[score].function(judge.similarities(images), 1.0)
    np.testing.assert_array_equal(judge.scores(images), expected)
    assert [verdict.score for verdict in judge.judge(images)] == expected.tolist()


@pytest.mark.parametrize("score", OF_SIMILARITIES)
def test_lift_is_given_for_mcm_only(score: str) -> None:
    (verdict,) = random_detector(score=score).judge(random_images(1))
    assert verdict.lift == (7 * verdict.score if score == "mcm" else None)


def test_lift_is_one_when_no_concept_is_preferred() -> None:
    (verdict,) = detector().judge(unit_rows([[1.0, 1.0]]))
    assert verdict.lift == pytest.approx(1.0)


# ---- patches


def local_detector(k: int = 7, dim: int = 40, **parameters: Any) -> Detector:
    definition = define([f"c{i}" for i in range(k)], score="gl-mcm", **parameters)
    return dataclasses.replace(random_detector(k, dim), definition=definition)


def random_patches(n: int, rows: int, columns: int, dim: int = 40) -> Vectors:
    flat = np.random.default_rng(2).standard_normal((n * rows * columns, dim))
    return unit_rows(flat).reshape(n, rows, columns, dim)


def test_a_gl_mcm_verdict_worked_by_hand() -> None:
    judge = detector(define(["cat", "dog"], score="gl-mcm", local_weight=2.0))
    image, half = unit_rows([[0.8, 0.6]]), 0.5**0.5
    patches = unit_rows([[half, half], DOG, [-0.6, 0.8]]).reshape(1, 1, 3, 2)
    (verdict,) = judge.judge(image, local=judge.local(image, patches))
    globally, locally = 1 / (1 + E**-0.2), 1 / (1 + E**-1.4)  # the third patch: 0.8 to dog, -0.6 to cat
    assert verdict.score == pytest.approx(globally + 2 * locally, rel=1e-6)
    assert (verdict.concept, verdict.lift) == ("cat", None)
    assert verdict.local is not None
    assert verdict.local.score == pytest.approx(locally, rel=1e-6)
    np.testing.assert_allclose(verdict.local.similarities, [[half, 0.0, -0.6]], atol=1e-7)


def test_gl_mcm_adds_the_local_part_to_mcm() -> None:
    judge, images, patches = local_detector(temperature=0.1), random_images(5), random_patches(5, 3, 4)
    local = judge.local(images, patches)
    cosines = judge.similarities(patches.reshape(-1, 40)).reshape(5, 12, 7)
    best = [max(SCORES["mcm"].function(of_one, 0.1)) for of_one in cosines]
    assert [one.score for one in local] == best
    expected = SCORES["mcm"].function(judge.similarities(images), 0.1) + 0.5 * np.array(best)
    np.testing.assert_array_equal(judge.scores(images, local=local), expected)
    assert [verdict.score for verdict in judge.judge(images, local=local)] == expected.tolist()


def test_the_map_holds_the_cosines_of_the_concept_that_the_verdict_names() -> None:
    judge, images, patches = local_detector(), random_images(5), random_patches(5, 3, 4)
    for i, verdict in enumerate(judge.judge(images, local=judge.local(images, patches))):
        column = judge.definition.names.index(verdict.concept)
        expected = judge.similarities(patches[i].reshape(-1, 40))[:, column].reshape(3, 4)
        assert verdict.local is not None
        np.testing.assert_array_equal(verdict.local.similarities, expected)


@pytest.mark.parametrize(("n", "rows", "columns"), [(2, 5, 5), (25, 1, 2)])
def test_an_image_says_the_same_alone_and_among_others_however_many_concepts_there_are(
    n: int, rows: int, columns: int
) -> None:
    judge = local_detector(k=200_000, dim=4)  # so many that patches, or images, take more than one block
    images, patches = random_images(n, dim=4), random_patches(n, rows, columns, dim=4)
    together = judge.scores(images, local=judge.local(images, patches))
    for i in (0, n - 1):
        image, of_one = images[i : i + 1], patches[i : i + 1]
        assert judge.scores(image, local=judge.local(image, of_one))[0] == together[i]


def test_a_gl_mcm_detector_refuses_embeddings_alone() -> None:
    judge, images = local_detector(), random_images(2)
    for ask in (judge.judge, judge.scores):
        with pytest.raises(InvalidEmbeddings, match=r"'gl-mcm' needs the patches.*give images"):
            ask(images)
        with pytest.raises(InvalidEmbeddings, match="2 images need the local parts of 2, not of 1"):
            ask(images, local=judge.local(images[:1], random_patches(1, 2, 2)))


@pytest.mark.parametrize("shape", [(1, 2, 2, 40), (2, 4, 40), (2, 2, 2, 39), (2, 0, 2, 40)])
def test_patches_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidEmbeddings):
        local_detector().local(random_images(2), np.ones(shape, dtype=np.float32))
    with pytest.raises(InvalidEmbeddings):
        local_detector().local(random_images(2), np.ones((2, 2, 2, 40)).tolist())


def test_other_scores_take_a_map_and_are_not_moved_by_it() -> None:
    judge, images = random_detector(), random_images(2)
    verdicts = judge.judge(images, local=judge.local(images, random_patches(2, 2, 2)))
    assert [verdict.score for verdict in verdicts] == judge.scores(images).tolist()
    assert all(verdict.local is not None for verdict in verdicts)


# ---- thresholds


def test_only_a_score_below_the_threshold_is_ood() -> None:
    image = unit_rows([CAT])
    score = float(detector().scores(image)[0])
    below, above = math.nextafter(score, 0), math.nextafter(score, 1)
    for threshold, is_ood in ((below, False), (score, False), (above, True)):
        (verdict,) = detector(calibration=manual(threshold, "hash")).judge(image)
        assert verdict.threshold == threshold
        assert verdict.is_ood is is_ood


def test_the_image_that_set_the_threshold_is_not_ood_whatever_is_judged_beside_it() -> None:
    plain, images = random_detector(k=1000, dim=512), random_images(39, dim=512)
    made = calibrate(plain.scores(images), plain.definition_hash)
    calibrated = dataclasses.replace(plain, calibration=made)
    alone = [calibrated.judge(image[None])[0].is_ood for image in images]
    together = [verdict.is_ood for verdict in calibrated.judge(images)]
    assert alone == together
    assert sum(map(bool, alone)) == 1  # k = 2: one score lies below the threshold


def test_p_values_come_from_the_calibration() -> None:
    made = calibrate([0.5, 0.6, 0.7, 0.8], "hash", false_alarm_rate=0.5)
    cat, between = detector(calibration=made).judge(unit_rows([CAT, [1.0, 1.0]]))
    assert (cat.p_value, cat.is_ood) == (4 / 5, False)  # scores about 0.731 and 0.5
    assert (between.p_value, between.is_ood) == (2 / 5, True)


def test_scores_without_a_threshold_give_p_values_and_no_verdict() -> None:
    (verdict,) = detector(calibration=Calibration(np.array([0.9]))).judge(unit_rows([CAT]))
    assert (verdict.p_value, verdict.threshold, verdict.is_ood) == (0.5, None, None)


def test_a_threshold_that_is_required_and_missing_says_what_to_do() -> None:
    with pytest.raises(NotCalibrated, match="calibrate it with ID images, or set one"):
        detector().require_threshold()
    assert detector(calibration=manual(0.6, "hash")).require_threshold() == 0.6


def test_another_encoders_embeddings_are_refused() -> None:
    detector().require_encoder("f")
    with pytest.raises(EncoderMismatch, match=r"encoder g.*detector's by f"):
        detector().require_encoder("g")


def test_the_hash_is_the_definitions_under_the_encoder() -> None:
    assert detector().definition_hash == define(["cat", "dog"]).hash("f")


# ---- many concepts, many images


@pytest.mark.parametrize("top_k", [0, 1, 2, 3, 6, 7, 8, 12])
def test_top_k_are_the_most_similar_concepts_best_first(top_k: int) -> None:
    judge, images = random_detector(k=7), random_images(4)
    similarities = judge.similarities(images)
    for verdict, row in zip(judge.judge(images, top_k=top_k), similarities, strict=True):
        order = np.argsort(-row)
        assert [match.concept for match in verdict.top] == [f"c{i}" for i in order[:top_k]]
        assert [match.similarity for match in verdict.top] == row[order[:top_k]].tolist()
        assert verdict.concept == f"c{order[0]}"


def test_a_negative_top_k_is_refused() -> None:
    with pytest.raises(InvalidInput, match="top_k must be 0 or more, not -1"):
        detector().judge(unit_rows([CAT]), top_k=-1)


def test_all_probabilities_sum_to_one() -> None:
    for verdict in random_detector(k=7).judge(random_images(4), top_k=7):
        assert sum(match.probability for match in verdict.top) == pytest.approx(1)


def test_of_duplicate_concepts_the_first_is_named() -> None:
    matrix = unit_rows([DOG, CAT, CAT, CAT])
    judge = Detector(define(["dog", "Cat", "cat", "CAT"]), "f", matrix)
    (verdict,) = judge.judge(unit_rows([[0.9, 0.1]]), top_k=3)
    assert [match.concept for match in verdict.top] == ["Cat", "cat", "CAT"]
    assert verdict.concept == "Cat"


def test_no_images_give_no_verdicts() -> None:
    none = np.empty((0, 2), dtype=np.float32)
    assert detector().judge(none) == []
    assert detector().scores(none).shape == (0,)
    assert detector().similarities(none).shape == (0, 2)


def test_an_image_gets_the_same_verdict_in_any_company() -> None:
    judge, images = random_detector(k=300, dim=512), random_images(50, dim=512)
    together = judge.judge(images)
    assert together == [judge.judge(image[None])[0] for image in images]
    assert together[::-1] == judge.judge(images[::-1])


def test_more_images_than_fit_a_block_are_judged_as_they_are_alone() -> None:
    judge, images = random_detector(k=5000, dim=4), random_images(1000, dim=4)  # 5 million similarities
    verdicts = judge.judge(images, top_k=1)
    scores = judge.scores(images)
    assert len(verdicts) == len(scores) == 1000
    for i in (0, 500, 999):
        assert [verdicts[i]] == judge.judge(images[i : i + 1], top_k=1)
        assert scores[i] == verdicts[i].score


def test_similarities_are_cosines_within_minus_one_and_one() -> None:
    judge = random_detector(k=50)
    similarities = judge.similarities(np.concatenate([judge.matrix, -judge.matrix]))
    assert similarities.dtype == np.float64
    assert np.abs(similarities).max() <= 1
    np.testing.assert_allclose(similarities[:50].diagonal(), 1, rtol=1e-6)


def test_a_concept_row_that_is_a_little_too_long_gives_no_cosine_above_one() -> None:
    judge = Detector(define(["cat", "dog"]), "f", np.array([[1.0005, 0], [0, 1]], dtype=np.float32))
    assert judge.similarities(unit_rows([CAT, [-1.0, 0.0]]))[:, 0].tolist() == [1.0, -1.0]


def test_embeddings_of_any_length_are_judged_by_their_direction() -> None:
    (short,) = detector().scores(np.array([[0.03, 0.01]], dtype=np.float32))
    (long,) = detector().scores(np.array([[300, 100]], dtype=np.float32))
    assert short == pytest.approx(long, rel=1e-6)


# ---- what is refused


@pytest.mark.parametrize(
    ("embeddings", "reason"),
    [
        ([[1.0, 0.0, 0.0]], "have 3 numbers, the encoder makes 2"),
        ([1.0, 0.0], "must be a matrix"),
        ([[1.0, 0.0], [float("nan"), 1.0]], "embedding 1 is zero or not finite"),
        ([[0.0, 0.0]], "embedding 0 is zero or not finite"),
    ],
)
def test_vectors_that_are_no_embeddings_never_get_a_verdict(embeddings: Any, reason: str) -> None:
    for ask in (detector().judge, detector().scores, detector().similarities):
        with pytest.raises(InvalidEmbeddings, match=reason):
            ask(np.array(embeddings, dtype=np.float32))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (unit_rows([CAT]), r"2 concepts need a matrix \(2, d\), not of shape \(1, 2\)"),
        (np.ones(2, dtype=np.float32), "need a matrix"),
        (np.array([[1, 0], [0, 50]], dtype=np.float32), "length 1"),
        (np.array([[1, 0], [0, np.nan]], dtype=np.float32), "length 1"),
        (np.empty((2, 0), dtype=np.float32), "length 1"),
    ],
)
def test_a_matrix_that_is_not_one_unit_row_a_concept_is_refused(matrix: Vectors, reason: str) -> None:
    with pytest.raises(InvalidEmbeddings, match=reason):
        Detector(define(["cat", "dog"]), "f", matrix)


@pytest.mark.parametrize("matrix", [[CAT, DOG], None, "matrix", np.array([["a", "b"]] * 2), np.eye(2) > 0])
def test_a_matrix_that_is_no_array_of_numbers_is_refused(matrix: Any) -> None:
    with pytest.raises(InvalidEmbeddings, match=r"the matrix must be a numpy array of numbers, not .*unit_"):
        Detector(define(["cat", "dog"]), "f", matrix)


# ---- best_first

tied = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0]) | st.floats(-1, 1)


@given(
    similarities=arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(1, 60)), elements=tied),
    count=st.integers(1, 70),
)
def test_best_first_is_the_head_of_a_stable_sort(similarities: Floats, count: int) -> None:
    expected = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(best_first(similarities, count), expected)


def test_best_first_leaves_its_input_alone() -> None:
    similarities = np.array([[0.1, 0.3, 0.2]])
    best_first(similarities, 2)
    assert similarities.tolist() == [[0.1, 0.3, 0.2]]


def test_a_match_says_concept_similarity_and_probability() -> None:
    (verdict,) = detector().judge(unit_rows([CAT]), top_k=1)
    assert verdict.top == (Match("cat", 1.0, verdict.score),)
