from collections.abc import Sequence

import numpy as np
import pytest

from mcm.advice import (
    MAX_SYNONYMS,
    NEAR_SYNONYM_COSINE,
    Synonyms,
    advise,
    cut_concepts,
    near_synonyms,
)
from mcm.definition import Concept, define
from mcm.embeddings import Vectors, unit_rows


def longer_than_three_words(texts: Sequence[str]) -> list[bool]:
    return [len(text.split()) > 3 for text in texts]


def nothing_is_cut(texts: Sequence[str]) -> list[bool]:
    return [False] * len(texts)


def at_angles(*degrees: float) -> Vectors:
    radians = np.radians(degrees)
    return unit_rows(np.stack([np.cos(radians), np.sin(radians)], axis=1))


# ---- warnings


def test_there_is_nothing_to_say_of_a_clean_definition() -> None:
    assert advise(define(["cat", "dog"]), nothing_is_cut) == []


def test_duplicates_are_warned_of_and_named() -> None:
    (advice,) = advise(define(["missile", "dog", "Missile", "missile "]), nothing_is_cut)
    assert advice.code == "duplicate-concepts"
    assert "'missile' = 'Missile' = 'missile '" in advice.message
    assert "all are kept" in advice.message


def test_cut_prompts_are_warned_of_by_concept() -> None:
    definition = define(["cat", "very long name"], templates=["{}", "a {}"])
    (advice,) = advise(definition, longer_than_three_words)
    assert advice.code == "prompt-truncated"
    assert "'very long name'" in advice.message
    assert "'cat'" not in advice.message


def test_many_names_are_counted_instead_of_listed() -> None:
    (advice,) = advise(define([f"one two three four{i}" for i in range(8)]), longer_than_three_words)
    assert "four4' and 3 more" in advice.message
    assert "four5" not in advice.message


def test_both_warnings_come_together() -> None:
    codes = [a.code for a in advise(define(["a b c d", "A b c d"]), longer_than_three_words)]
    assert codes == ["duplicate-concepts", "prompt-truncated"]


def test_each_cut_prompt_is_given_with_its_concept() -> None:
    definition = define([Concept("cat", ("a b c d", "a")), "dog", "x y z"], templates=["{}", "a {}"])
    assert cut_concepts(definition, longer_than_three_words) == [("cat", "a b c d"), ("x y z", "a x y z")]


# ---- near synonyms


def test_near_synonyms_are_named_once_nearest_first() -> None:
    definition = define(["couch", "tree", "sofa", "settee"])
    found = near_synonyms(definition, at_angles(0, 90, 10, 12))
    assert [(pair.first, pair.second) for pair in found] == [
        ("sofa", "settee"),
        ("couch", "sofa"),
        ("couch", "settee"),
    ]
    expected = [np.cos(np.radians(angle)) for angle in (2, 10, 12)]
    assert [pair.cosine for pair in found] == pytest.approx(expected, rel=1e-6)


def test_the_order_of_the_concepts_does_not_change_the_pairs() -> None:
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(30)]
    matrix = unit_rows(rng.standard_normal((30, 3)))
    order = rng.permutation(30)
    pairs = near_synonyms(define(names), matrix)
    shuffled = near_synonyms(define([names[i] for i in order]), matrix[order])
    assert 0 < len(pairs) < MAX_SYNONYMS
    assert {frozenset((p.first, p.second)) for p in pairs} == {
        frozenset((p.first, p.second)) for p in shuffled
    }


def test_no_pair_is_missed_and_none_is_invented() -> None:
    matrix = unit_rows(np.random.default_rng(1).standard_normal((40, 4)))
    cosines = matrix.astype(np.float64) @ matrix.T
    found = near_synonyms(define([f"c{i}" for i in range(40)]), matrix)
    expected = {
        (f"c{i}", f"c{j}")
        for i in range(40)
        for j in range(i + 1, 40)
        if cosines[i, j] >= NEAR_SYNONYM_COSINE
    }
    assert {(pair.first, pair.second) for pair in found} == expected


def test_opposite_and_unrelated_concepts_are_no_synonyms() -> None:
    assert near_synonyms(define(["hot", "cold", "wet"]), at_angles(0, 180, 90)) == []


def test_duplicates_are_no_synonyms() -> None:
    definition = define(["couch", "Couch", "couch ", "ｃｏｕｃｈ", "sofa"])
    found = near_synonyms(definition, at_angles(0, 0, 0, 0, 5))
    assert [(pair.first, pair.second) for pair in found] == [
        ("couch", "sofa"),
        ("Couch", "sofa"),
        ("couch ", "sofa"),
        ("ｃｏｕｃｈ", "sofa"),
    ]


def test_the_cosine_of_equal_embeddings_is_one_and_not_more() -> None:
    row = np.random.default_rng(0).standard_normal(501)
    (pair,) = near_synonyms(define(["couch", "sofa"]), unit_rows([row, row]))
    assert pair == Synonyms("couch", "sofa", pair.cosine)
    assert 1 - 1e-6 < pair.cosine <= 1


def test_only_the_nearest_hundred_are_given_wherever_they_stand() -> None:
    k, pairs = 3000, 400  # more than one block of rows, with ever nearer twins spread over all of it
    rng = np.random.default_rng(0)
    matrix = unit_rows(rng.standard_normal((k, 64)))
    first, second = np.sort(rng.permutation(k)[: 2 * pairs].reshape(pairs, 2), axis=1).T
    matrix[second] = unit_rows(matrix[first] + np.linspace(0.4, 0, pairs)[:, None] * matrix[second])
    found = near_synonyms(define([f"c{i}" for i in range(k)]), matrix)
    cosines = [pair.cosine for pair in found]
    assert cosines == sorted(cosines, reverse=True)
    nearest = np.argsort(-np.sum(matrix[first] * matrix[second], axis=1))[:MAX_SYNONYMS]
    assert {(pair.first, pair.second) for pair in found} == {
        (f"c{first[i]}", f"c{second[i]}") for i in nearest
    }


def test_one_concept_has_no_synonym() -> None:
    assert near_synonyms(define(["cat"], score="energy"), at_angles(0)) == []
