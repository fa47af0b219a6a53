"""Mining: the authors' selection, no concept among the negatives, each vocabulary encoded once."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcm.embeddings import Vectors, unit_rows
from mcm.errors import EncoderError, InvalidDefinition
from mcm.mining import CHUNK, Miner, MiningReport, grouped, id_quantiles, mine
from mcm.negatives import Negatives, NegativesChoice
from mcm.vocabularies import Vocabulary, vocabulary
from tests.fakes import ColourEncoder
from tests.shared import shared


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mcm-ood"


def choice_of(words: Vocabulary, **options: Any) -> NegativesChoice:
    return NegativesChoice(words.name, words.hash, **options)


def mined(
    words: Vocabulary, rows: Vectors, names: Sequence[str], matrix: Vectors, **options: Any
) -> tuple[Negatives, MiningReport]:
    """The negatives of a vocabulary with these embeddings (n, d)."""
    miner = Miner(words, choice_of(words, **options), names, matrix)
    for chunk in miner.chunks:
        miner.add(chunk, rows[chunk.start : chunk.start + len(chunk.prompts)])
    found = miner.result()
    assert found.negatives.words == tuple(words.words[place] for place in found.places)
    return found.negatives, found.report


def random_words(nouns: int, adjectives: int = 0, dim: int = 8) -> tuple[Vocabulary, Vectors]:
    words = vocabulary("random", [f"noun {i}" for i in range(nouns)], [f"adj {i}" for i in range(adjectives)])
    return words, unit_rows(np.random.default_rng(0).standard_normal((nouns + adjectives, dim)))


@pytest.mark.parametrize("groups", [5, 7, 10])
def test_the_words_and_their_order_equal_the_authors_own(groups: int) -> None:
    data = json.loads(shared("golden/neglabel.json").read_text())
    with np.load(shared("golden/neglabel.npz")) as file:
        nouns, adjectives, concepts = (unit_rows(file[key]) for key in ("nouns", "adjectives", "id_text"))
    words = vocabulary(
        "golden", [f"n{i}" for i in range(len(nouns))], [f"a{i}" for i in range(len(adjectives))]
    )
    names = [f"concept {i}" for i in range(len(concepts))]
    rows = np.concatenate([nouns, adjectives])
    negatives, report = mined(words, rows, names, concepts, groups=groups, seed=3)
    selected = [f"n{i}" for i in data["nouns_selected"]] + [f"a{i}" for i in data["adjectives_selected"]]
    even = len(selected) - len(selected) % groups
    order = np.random.default_rng(3).permutation(even)  # the authors' own permutations came without a seed
    assert negatives.words == tuple(selected[i] for i in order)
    assert (negatives.groups, report.left_over) == (groups, len(selected) - even)
    place = {word: i for i, word in enumerate(words.words)}
    np.testing.assert_array_equal(negatives.matrix, rows[[place[word] for word in negatives.words]])


def test_the_kept_words_are_the_15_percent_that_are_farthest_from_the_concepts() -> None:
    words, rows = random_words(2 * CHUNK + 100, 300)
    matrix = unit_rows(np.random.default_rng(1).standard_normal((40, 8)))
    negatives, report = mined(words, rows, [f"c{i}" for i in range(40)], matrix, groups=1)
    quantiles = dict(zip(words.words, np.quantile(rows @ matrix.T, 0.95, axis=1), strict=True))
    kept = set(negatives.words)
    for part in (words.nouns, words.adjectives):
        lowest = sorted(part, key=lambda word: quantiles[word])[: int(0.15 * len(part))]
        assert kept & set(part) == set(lowest)
    assert (report.candidates, report.negatives) == (2448, 322 + 45)


def test_the_seed_moves_words_between_groups_and_nothing_else() -> None:
    words, rows = random_words(200)
    one, again, other = (
        mined(words, rows, ["a"], unit_rows([[1] * 8]), groups=5, seed=seed)[0].words for seed in (0, 0, 1)
    )
    assert one == again != other
    assert set(one) == set(other)


def test_there_are_no_more_groups_than_negatives() -> None:
    assert grouped(np.arange(3), 100, 0)[1] == 3
    order, groups = grouped(np.arange(76), 7, 0)
    assert (sorted(order), groups) == (list(range(70)), 7)  # the last six would not fill a row


def test_a_word_that_is_a_concept_is_never_a_negative() -> None:
    words, rows = random_words(50)
    matrix = unit_rows(-rows.mean(axis=0, keepdims=True))
    names = ["NOUN  7", "noun 8 "]
    negatives, report = mined(words, rows, names, np.repeat(matrix, 2, axis=0), groups=1)
    assert report.duplicates == ("noun 7", "noun 8")
    assert report.candidates == 48
    assert not set(negatives.words) & set(report.duplicates)


def test_words_near_a_concept_are_kept_unless_asked_otherwise_and_dropped_after_the_selection() -> None:
    words = vocabulary("v", [f"w{i}" for i in range(20)])
    angles = np.linspace(0.1, 0.2, 20)
    rows = unit_rows(np.stack([np.cos(angles), np.sin(angles)], axis=1))  # all nearer than 0.95
    matrix = unit_rows([[1.0, 0.0]])
    negatives, report = mined(words, rows, ["east"], matrix, groups=1)
    assert (len(negatives.words), report.near) == (3, ())
    with pytest.raises(InvalidDefinition, match="every negative is too near a concept: leave drop_near out"):
        mined(words, rows, ["east"], matrix, groups=1, drop_near=True)
    rows[4] = (0, 1)
    negatives, report = mined(words, rows, ["east"], matrix, groups=1, drop_near=True)
    assert negatives.words == ("w4",)
    assert [n.word for n in report.near] == ["w19", "w18"]  # selected first, then dropped
    assert all(n.cosine > 0.95 and n.concept == "east" for n in report.near)


def test_the_report_lists_the_closest_negatives_with_their_concepts() -> None:
    words, rows = random_words(400)
    matrix = unit_rows(np.random.default_rng(1).standard_normal((3, 8)))
    negatives, report = mined(words, rows, ["a", "b", "c"], matrix, groups=4)
    cosines = negatives.matrix @ matrix.T
    best = np.argsort(-cosines.max(axis=1))[:10]
    assert [n.word for n in report.closest] == [negatives.words[i] for i in best]
    assert [n.concept for n in report.closest] == ["abc"[cosines[i].argmax()] for i in best]
    assert [n.cosine for n in report.closest] == pytest.approx(cosines.max(axis=1)[best], abs=1e-6)


def test_a_vocabulary_too_small_for_one_negative_is_refused() -> None:
    words, rows = random_words(6, 6)
    with pytest.raises(InvalidDefinition, match="no negative is kept: of the 12 words of 'random'"):
        mined(words, rows, ["a"], rows[:1])


def test_a_choice_of_other_words_is_refused() -> None:
    words, rows = random_words(20)
    other = NegativesChoice(words.name, "another hash")
    with pytest.raises(InvalidDefinition, match="are not those of the definition's negatives"):
        Miner(words, other, ["a"], rows[:1])


def test_each_word_is_encoded_once_for_an_encoder_and_reported_as_it_comes() -> None:
    words = vocabulary("v", [f"n{i}" for i in range(CHUNK + 5)], ["adj"] + [f"a{i}" for i in range(9)])
    encoder, seen = ColourEncoder(), list[tuple[int, int]]()
    matrix = encoder.encode_texts(["the nice cat"])
    one, _ = mine(words, choice_of(words), ["cat"], matrix, encoder, progress=lambda *at: seen.append(at))
    assert encoder.texts[1:] == list(words.prompts)
    assert seen == [(1024, 1039), (1029, 1039), (1039, 1039)]
    again, _ = mine(words, choice_of(words), ["dog"], matrix, encoder)
    assert len(encoder.texts) == 1 + len(words.words)
    np.testing.assert_array_equal(again.matrix, one.matrix)
    other = ColourEncoder("colours-2")
    mine(words, choice_of(words), ["cat"], matrix, other)
    assert len(other.texts) == len(words.words)


class Stops(ColourEncoder):
    """Fails after some texts, as a stop would."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if self.texts:
            raise EncoderError("stopped")
        return super().encode_texts(texts)


def test_a_mining_that_was_stopped_goes_on() -> None:
    words, _ = random_words(3 * CHUNK)
    matrix = ColourEncoder().encode_texts(["the nice cat"])
    with pytest.raises(EncoderError, match="stopped"):
        mine(words, choice_of(words), ["cat"], matrix, Stops())
    encoder = ColourEncoder()
    mine(words, choice_of(words), ["cat"], matrix, encoder)
    assert len(encoder.texts) == 2 * CHUNK


def test_quantiles_do_not_depend_on_how_many_words_come_at_once() -> None:
    _, rows = random_words(500)
    concepts = unit_rows(np.random.default_rng(1).standard_normal((30, 8)))
    apart = np.concatenate([id_quantiles(rows[i : i + 7], concepts) for i in range(0, 500, 7)])
    np.testing.assert_array_equal(id_quantiles(rows, concepts), apart)


def test_memory_holds_what_may_be_kept_and_not_the_vocabulary() -> None:
    dim, count = 64, 40 * CHUNK
    words = vocabulary("v", [f"w{i}" for i in range(count)])
    matrix = unit_rows(np.random.default_rng(0).standard_normal((20, dim)))
    miner = Miner(words, choice_of(words), [f"c{i}" for i in range(20)], matrix)
    rng = np.random.default_rng(1)
    tracemalloc.start()
    for chunk in miner.chunks:
        miner.add(chunk, unit_rows(rng.standard_normal((len(chunk.prompts), dim))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * count * dim * 4
