"""Negatives from outside are taken only if their definition gives them, up to what machines differ in."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from mcm.embeddings import unit_rows
from mcm.errors import InvalidDetectorFile
from mcm.mining import Miner
from mcm.negatives import Negatives, NegativesChoice
from mcm.negatives_check import NegativesCheck
from mcm.vocabularies import vocabulary

WORDS = vocabulary(
    "words", [f"noun {i}" for i in range(1500)] + ["orange"], [f"adj {i}" for i in range(300)] + ["orange"]
)
ROWS = unit_rows(np.random.default_rng(0).standard_normal((len(WORDS.words), 8)))
CONCEPTS = unit_rows(np.random.default_rng(1).standard_normal((20, 8)))
NAMES = [f"concept {i}" for i in range(20)]
ORANGES = (1500, len(WORDS.words) - 1)
ROWS[list(ORANGES)] = -CONCEPTS.mean(axis=0) / np.linalg.norm(
    CONCEPTS.mean(axis=0)
)  # far from all: both kept


def run(taker: Any, miner: Miner, rows: Any = ROWS) -> None:
    for chunk in miner.chunks:
        taker.add(chunk, rows[chunk.start : chunk.start + len(chunk.prompts)])


def new_miner() -> Miner:
    return Miner(WORDS, NegativesChoice("words", WORDS.hash, groups=7, seed=5), NAMES, CONCEPTS)


def negatives(rows: Any = ROWS) -> Negatives:
    miner = new_miner()
    run(miner, miner, rows)
    return miner.result().negatives


def check(claimed: Negatives) -> None:
    miner = new_miner()
    checking = NegativesCheck(claimed, miner)
    run(checking, miner)
    checking.check()


def test_what_the_definition_gives_is_taken() -> None:
    assert negatives().words.count("orange") == 2  # as a noun and as an adjective
    check(negatives())


def test_what_another_machine_finds_is_taken() -> None:
    reordered = 0
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal(ROWS.shape) * 2e-5
        theirs = negatives(unit_rows(ROWS + noise))
        reordered += theirs.words != negatives().words
        check(theirs)
    assert reordered  # some words changed their rank


def swapped(words: tuple[str, ...], one: int, other: int) -> tuple[str, ...]:
    changed = list(words)
    changed[one], changed[other] = changed[other], changed[one]
    return tuple(changed)


def test_other_words_are_refused() -> None:
    made = negatives()
    kept = set(made.words)
    another = next(word for word in WORDS.nouns if word not in kept)
    for forged in (another, "no word of the vocabulary", made.words[1]):
        words = (forged, *made.words[1:])
        with pytest.raises(InvalidDetectorFile, match=r"is not one that its definition gives|twice"):
            check(dataclasses.replace(made, words=words))


def test_other_groups_are_refused() -> None:
    made = negatives()
    with pytest.raises(InvalidDetectorFile, match="its definition gives 266 in 7"):
        check(dataclasses.replace(made, groups=1))
    with pytest.raises(InvalidDetectorFile, match="has 259 negatives in 7 groups"):
        check(Negatives(made.words[:259], made.matrix[:259], 7))
    far_apart = np.argsort([abs(float(row @ CONCEPTS.mean(axis=0))) for row in made.matrix])[[0, -1]]
    order = np.arange(len(made.words))
    order[far_apart] = order[far_apart[::-1]]
    with pytest.raises(InvalidDetectorFile, match="is not one that its definition gives there"):
        check(Negatives(swapped(made.words, *far_apart.tolist()), made.matrix[order], 7))


def test_a_word_with_anothers_embedding_is_refused() -> None:
    made = negatives()
    matrix = made.matrix.copy()
    matrix[3] = CONCEPTS[0]
    with pytest.raises(InvalidDetectorFile, match=f"embedding of the negative '{made.words[3]}' differs by"):
        check(dataclasses.replace(made, matrix=matrix))
