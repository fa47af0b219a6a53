from collections.abc import Sequence

import numpy as np
import pytest

from mcm.definition import Concept, define
from mcm.embeddings import Vectors, unit_rows
from mcm.errors import InvalidDefinition, NoPatches
from mcm.prompts import build_detector, distinct_prompts, pool_prompts, prompts_of
from mcm.scores import SCORES
from tests.fakes import ColourEncoder, PatchColourEncoder


class SameEncoder(PatchColourEncoder):
    """Embeds every text alike."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        return unit_rows(np.ones((len(texts), self.dim)))


@pytest.mark.parametrize("name", ["cat", "{}", "{0}", "{name}", "a {} b", "{{}}", "\\1", "%s", "$x"])
def test_a_name_is_put_into_the_template_as_it_is(name: str) -> None:
    assert prompts_of(Concept(name), ["a photo of a {}."]) == ["a photo of a " + name + "."]


def test_only_the_templates_own_braces_are_a_gap() -> None:
    assert prompts_of(Concept("cat"), ["{x} {} {{"]) == ["{x} cat {{"]


def test_every_template_gives_a_prompt() -> None:
    assert prompts_of(Concept("cat"), ["a {}", "{}s"]) == ["a cat", "cats"]


def test_own_prompts_stand_instead_of_the_templates() -> None:
    assert prompts_of(Concept("cat", ("a tabby {}", "a kitten")), ["a {}"]) == ["a tabby {}", "a kitten"]


def test_prompts_that_repeat_are_encoded_once_in_order() -> None:
    definition = define(["cat", Concept("feline", ("a cat", "a lynx")), "cat"], templates=["a {}"])
    assert distinct_prompts(definition) == ["a cat", "a lynx"]
    encoder = ColourEncoder()
    detector = build_detector(definition, encoder)
    assert encoder.texts == ["a cat", "a lynx"]
    np.testing.assert_array_equal(detector.matrix[0], detector.matrix[2])


def test_prompts_are_averaged_and_normalised_again() -> None:
    definition = define([Concept("both", ("x", "y")), Concept("x only", ("x",))])
    pooled = pool_prompts(definition, ["x", "y"], unit_rows([[1, 0, 0], [0, 1, 0]]))
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[2**-0.5, 2**-0.5, 0.0], [1.0, 0.0, 0.0]], rtol=1e-6)


def test_prompts_count_as_often_as_a_concept_names_them() -> None:
    definition = define([Concept("mostly x", ("x", "x", "y")), "other"], templates=["{}"])
    pooled = pool_prompts(definition, ["x", "y", "other"], unit_rows([[1, 0], [0, 1], [-1, 0]]))
    np.testing.assert_allclose(pooled[0], np.array([2, 1]) / 5**0.5, rtol=1e-6)


def test_several_templates_pool_each_concept_from_all_of_them() -> None:
    encoder = ColourEncoder()
    templates = ["a photo of {}", "abc {} def"]
    detector = build_detector(define(["zebra", "apple"], templates=templates), encoder)
    for row, name in zip(detector.matrix, ["zebra", "apple"], strict=True):
        prompts = encoder.encode_texts([template.replace("{}", name) for template in templates])
        expected = unit_rows(prompts.mean(axis=0, keepdims=True))[0]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-7)


def test_a_built_detector_carries_definition_and_fingerprint_and_no_threshold() -> None:
    definition = define(["red", "green"])
    detector = build_detector(definition, ColourEncoder("colours-9"))
    assert (detector.definition, detector.fingerprint, detector.threshold) == (definition, "colours-9", None)
    assert detector.matrix.shape == (2, 16)


@pytest.mark.parametrize("score", SCORES)
def test_equal_concept_embeddings_are_refused_where_the_score_would_be_constant(score: str) -> None:
    definition = define(["cat", "Cat", "feline"], score=score)
    if not SCORES[score].contrasts:
        assert build_detector(definition, SameEncoder()).matrix.shape == (3, 16)
        return
    with pytest.raises(InvalidDefinition, match=f"'{score}'.*equal concept embeddings.*max-logit or energy"):
        build_detector(definition, SameEncoder())


def test_duplicates_beside_another_concept_are_fine() -> None:
    assert build_detector(define(["red", "red", "blue"]), ColourEncoder()).matrix.shape == (3, 16)


def test_gl_mcm_is_refused_before_any_work_with_an_encoder_that_gives_no_patches() -> None:
    definition, encoder = define(["red", "green"], score="gl-mcm"), ColourEncoder()
    with pytest.raises(NoPatches, match="the encoder colours gives no patch embeddings"):
        build_detector(definition, encoder)
    assert encoder.texts == []
    assert build_detector(definition, PatchColourEncoder()).matrix.shape == (2, 16)
