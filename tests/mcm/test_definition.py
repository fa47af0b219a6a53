import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.definition import (
    Concept,
    Definition,
    define,
    definition_from_json,
    duplicate_concepts,
)
from mcm.errors import InvalidDefinition
from mcm.scores import MAX_LOCAL_WEIGHT, MAX_TEMPERATURE, MIN_TEMPERATURE, SCORES

NAN, INFINITY = float("nan"), float("inf")
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() != ""
)
concepts = st.builds(Concept, name=texts, prompts=st.lists(texts, max_size=3).map(tuple))
definitions = st.builds(
    define,
    st.lists(concepts, min_size=2, max_size=5),
    templates=st.none() | st.lists(texts.map(lambda t: t.replace("{}", "") + "{}"), min_size=1, max_size=3),
    score=st.sampled_from(sorted(SCORES)),
    temperature=st.none() | st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE),
) | st.builds(
    define,
    st.lists(concepts, min_size=2, max_size=3),
    score=st.just("gl-mcm"),
    local_weight=st.floats(0, MAX_LOCAL_WEIGHT),
)


def test_what_is_left_out_takes_the_papers_defaults() -> None:
    definition = define(["cat", "dog"])
    assert definition == Definition(
        (Concept("cat"), Concept("dog")), ("a photo of a {}",), score="mcm", temperature=1.0
    )
    assert definition.names == ("cat", "dog")


def test_concepts_may_come_from_any_iterable_and_bring_prompts() -> None:
    listed: list[str | Concept] = ["cat", Concept("dog", ("a puppy",))]
    definition = define(iter(listed))
    assert definition.concepts == (Concept("cat"), Concept("dog", ("a puppy",)))


def test_concepts_may_be_a_mapping_from_names_to_their_prompts() -> None:
    definition = define({"cat": ["a cat", "a kitten"], "dog": ()})
    assert definition.concepts == (Concept("cat", ("a cat", "a kitten")), Concept("dog"))


def test_lists_become_tuples_so_that_equal_parts_are_equal() -> None:
    prompts: Any = ["a cat"]
    assert Concept("cat", prompts) == Concept("cat", ("a cat",))
    assert hash(Concept("cat", prompts)) == hash(Concept("cat", ("a cat",)))
    concepts: Any = [Concept("cat"), Concept("dog")]
    templates: Any = ["a {}"]
    assert Definition(concepts, templates) == define(["cat", "dog"], templates=["a {}"])


@pytest.mark.parametrize("prompts", ["a cat", b"a cat", None, 3, {"a cat": 1}])
def test_prompts_that_are_no_list_of_texts_are_refused(prompts: Any) -> None:
    with pytest.raises(InvalidDefinition, match="the prompts of concept 'cat' must be a list of texts, not"):
        Concept("cat", prompts)
    with pytest.raises(InvalidDefinition, match="the prompts of concept 'cat' must be a list of texts, not"):
        define({"cat": prompts, "dog": []})


@pytest.mark.parametrize(
    ("concepts", "reason"),
    [
        (["cat", "dog"], "concept 0 must be a Concept, not 'cat'; mcm.define takes names too"),
        ((Concept("cat"), None), "concept 1 must be a Concept, not None"),
        ("cat", "concepts must be a list of texts, not the one text 'cat'"),
        (None, "concepts must be a list of texts, not None"),
    ],
)
def test_a_definition_of_anything_but_concepts_is_refused(concepts: Any, reason: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        Definition(concepts)
    assert reason in str(caught.value)


def test_duplicates_are_kept() -> None:
    assert define(["cat", "cat", "Cat"]).names == ("cat", "cat", "Cat")


@pytest.mark.parametrize(
    "name", ["{}", "{0}", "{name}", "{", "}}", "%s", "naïve", "猫", "👩‍🚀", "o'clock", 'a "b"', "\\", " cat "]
)
def test_any_visible_text_is_a_name(name: str) -> None:
    assert define([name, "dog"]).names[0] == name


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"concepts": []}, "concepts is empty"),
    ({"concepts": "cat"}, "concepts must be a list of texts, not the one text 'cat'"),
    ({"concepts": 3}, "concepts must be a list of texts, not 3"),
    ({"concepts": b"cat"}, "concepts must be a list of texts, not b'cat'"),
    ({"concepts": {}}, "concepts is empty"),
    ({"concepts": ["cat", {"dog": ["a dog"]}]}, "concept 1 must be text, not {'dog'"),
    ({"concepts": ["cat", ""]}, "concept 1 is blank"),
    ({"concepts": ["cat", " \u3000"]}, "concept 1 is blank"),
    ({"concepts": ["cat", "a\nb"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "a\x00"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "\x7f"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "a\x85b"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "a\u2028b"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "a\ud800"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", "\udfff"]}, "concept 1 contains control characters"),
    ({"concepts": ["cat", NAN]}, "concept 1 must be text, not nan"),
    ({"concepts": ["cat", None]}, "concept 1 must be text, not None"),
    ({"concepts": ["cat", 3]}, "concept 1 must be text, not 3"),
    ({"concepts": ["cat", Concept("dog", ("", "b"))]}, "a prompt of concept 'dog' is blank"),
    ({"concepts": ["cat", Concept("dog", ("\t",))]}, "a prompt of concept 'dog' is blank"),
    ({"concepts": ["cat", Concept("dog", ("a\tb",))]}, "a prompt of concept 'dog' contains control"),
    ({"templates": []}, "templates is empty"),
    ({"templates": "a {}"}, "templates must be a list of texts"),
    ({"templates": 3}, "templates must be a list of texts, not 3"),
    ({"templates": ["a {}", " "]}, "a template is blank"),
    ({"templates": ["a {}\n"]}, "a template contains control characters"),
    ({"templates": ["a photo"]}, "'a photo' must contain {} exactly once"),
    ({"templates": ["{} and {}"]}, "'{} and {}' must contain {} exactly once"),
    ({"templates": ["a {0}"]}, "'a {0}' must contain {} exactly once"),
    ({"score": "msp"}, "there is no score 'msp'; choose one of mcm"),
    ({"score": ["mcm"]}, "there is no score ['mcm']"),
    ({"score": "MCM"}, "there is no score 'MCM'"),
    ({"local_weight": 0.5}, "local_weight goes with the score 'gl-mcm'; 'mcm' has none"),
    ({"score": "energy", "local_weight": 0}, "'energy' has none"),
    *(
        ({"score": "gl-mcm", "local_weight": bad}, "local_weight must be a number from 0 to 1e+06")
        for bad in (-1e-9, 1.1e6, NAN, INFINITY, "heavy", [1], 10**400)
    ),
    *(
        ({"temperature": bad}, "temperature must be a number from 1e-06 to 1e+06")
        for bad in (0, -0.0, -1, 9e-7, 1.1e6, NAN, INFINITY, -INFINITY, "warm", [1], 10**400)
    ),
]


@pytest.mark.parametrize(("parts", "reason"), INVALID)
def test_what_is_wrong_is_refused_by_name(parts: dict[str, Any], reason: str) -> None:
    arguments = {"concepts": ["cat", "dog"], **parts}
    with pytest.raises(InvalidDefinition) as caught:
        define(arguments.pop("concepts"), **arguments)
    assert reason in str(caught.value)


@pytest.mark.parametrize("temperature", [1e-6, 0.01, 1, 1e6])
def test_temperatures_up_to_the_bounds_are_taken_as_floats(temperature: float) -> None:
    value = define(["cat", "dog"], temperature=temperature).temperature
    assert value == temperature
    assert type(value) is float


def test_only_gl_mcm_has_a_local_weight() -> None:
    assert define(["cat", "dog"], score="gl-mcm").local_weight == 0.5
    assert define(["cat", "dog"], score="gl-mcm", local_weight=1).local_weight == 1.0
    assert all(
        define(["cat", "dog"], score=score).local_weight is None for score in SCORES if score != "gl-mcm"
    )
    assert "local_weight" not in define(["cat", "dog"]).to_json()


@pytest.mark.parametrize("score", SCORES)
def test_one_concept_is_refused_where_the_score_would_be_constant(score: str) -> None:
    if not SCORES[score].contrasts:
        assert define(["cat"], score=score).names == ("cat",)
        return
    with pytest.raises(InvalidDefinition, match=f"'{score}'.*one concept.*max-logit or energy"):
        define(["cat"], score=score)


@given(definitions)
def test_json_brings_back_the_same_definition_and_hash(definition: Definition) -> None:
    back = definition_from_json(json.loads(json.dumps(definition.to_json())))
    assert back == definition
    assert back.hash("f") == definition.hash("f")


BASE = define(["cat", "dog"])


@pytest.mark.parametrize(
    "other",
    [
        define(["dog", "cat"]),
        define(["cat", "dog", "dog"]),
        define(["cat", "Dog"]),
        define([Concept("cat", ("a photo of a cat",)), "dog"]),
        define(["cat", "dog"], templates=["a {}"]),
        define(["cat", "dog"], templates=["a photo of a {}", "a {}"]),
        define(["cat", "dog"], score="energy"),
        define(["cat", "dog"], temperature=1.0000000000000002),
        define(["cat", "dog"], score="gl-mcm"),
    ],
)
def test_the_hash_changes_with_each_part(other: Definition) -> None:
    assert other.hash("f") != BASE.hash("f")


def test_the_hash_changes_with_the_local_weight() -> None:
    weights = (None, 0.5, 0, -0.0, 1)
    default, half, zero, minus_zero, one = (
        define(["cat", "dog"], score="gl-mcm", local_weight=weight).hash("f") for weight in weights
    )
    assert default == half
    assert zero == minus_zero
    assert len({half, zero, one}) == 3


def test_the_hash_changes_with_the_encoder() -> None:
    assert BASE.hash("f") != BASE.hash("g")


def test_the_border_between_concepts_counts() -> None:
    assert define(["a", "b,c"]).hash("f") != define(["a,b", "c"]).hash("f")
    assert define(['a","b', "c"]).hash("f") != define(["a", "b", "c"]).hash("f")


def test_one_and_one_point_zero_have_one_hash() -> None:
    assert define(["cat", "dog"], temperature=1).hash("f") == BASE.hash("f")
    assert Definition((Concept("cat"), Concept("dog")), temperature=1).hash("f") == BASE.hash("f")


PINNED = "7e5827eec744814c47fdc2c6e0cbc74baf95de0c9c708690a3b4ecbf805252ea"


def test_the_hash_never_changes_between_versions() -> None:
    """Stored calibrations are bound to it: a change here orphans all of them."""
    definition = define(
        ["cat", Concept("Zürich 猫", ("a {} b", "c"))],
        templates=["a {}", "{}"],
        score="energy",
        temperature=0.01,
    )
    assert definition.hash("encoder-1") == PINNED


def test_the_hash_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "import mcm; print(mcm.define(['cat', 'dog']).hash('f'))"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == BASE.hash("f")


def test_a_definition_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.score = "energy"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["cat", "dog"], []),
        (["cat", "dog", "cat"], [("cat", "cat")]),
        (["Cat", "dog", "cAT", "dog"], [("Cat", "cAT"), ("dog", "dog")]),
        (["sea lion", " sea \u00a0 lion", "sealion"], [("sea lion", " sea \u00a0 lion")]),
        (["Straße", "STRASSE"], [("Straße", "STRASSE")]),
        (["café", "cafe\u0301", "cafe"], [("café", "cafe\u0301")]),
        (["ｃａｔ", "cat"], [("ｃａｔ", "cat")]),
    ],
)
def test_names_that_differ_in_case_space_or_unicode_form_are_duplicates(
    names: list[str], groups: list[tuple[str, ...]]
) -> None:
    assert duplicate_concepts(names) == groups


@given(st.lists(texts, max_size=6))
def test_every_name_stands_in_at_most_one_group_of_two_or_more(names: list[str]) -> None:
    groups = duplicate_concepts([*names, *names])
    assert sorted(name for group in groups for name in group) == sorted([*names, *names])
    assert all(len(group) >= 2 for group in groups)
