"""neglabel as a detector's score: its defaults, its hash, its verdicts, and its memory."""

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcm import Definition, Detector, NegativesChoice, build_detector, define, unit_rows
from mcm.definition import definition_from_json
from mcm.detector_file import read_detector_file, write_detector_file
from mcm.errors import InvalidDefinition, InvalidDetectorFile, InvalidEmbeddings
from mcm.negatives import Negatives
from mcm.prompts import build_and_report
from mcm.scores import energy, neglabel
from mcm.vocabularies import imagenet_vocabulary, vocabulary
from tests.fakes import ColourEncoder

WORDS = vocabulary("words", [*(f"noun {i}" for i in range(40)), "green"], [f"adj {i}" for i in range(20)])
CHOICE = NegativesChoice(WORDS.name, WORDS.hash, groups=2, seed=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def definition(*names: str, **options: Any) -> Definition:
    return define(names or ("red",), score="neglabel", negatives=CHOICE, **options)


def rows(n: int, dim: int = 16, seed: int = 0) -> Any:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, dim)))


def detector(k: int, words: int, groups: int, dim: int = 16) -> Detector:
    """k concepts against so many negatives, at random places."""
    negatives = Negatives(tuple(f"w{i}" for i in range(words)), rows(words, dim, 1), groups)
    return Detector(definition(*(f"c{i}" for i in range(k))), "f", rows(k, dim, 2), negatives=negatives)


def test_what_is_left_out_takes_the_authors_defaults() -> None:
    made = define(["red"], score="neglabel")
    assert made.temperature == 0.01
    assert made.templates == ("the nice {}",)
    words = imagenet_vocabulary()
    assert made.negatives == NegativesChoice("imagenet-21k", words.hash, groups=100, seed=0, drop_near=False)


def test_one_concept_is_enough() -> None:
    verdicts = build_detector(definition("red"), ColourEncoder(), vocabulary=WORDS).judge(rows(5))
    assert len({verdict.score for verdict in verdicts}) == 5


def test_the_definition_survives_json() -> None:
    assert definition_from_json(definition().to_json()) == definition()


def test_the_hash_covers_the_vocabularys_words_the_groups_the_seed_and_the_option() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"vocabulary_hash": "0" * 64},
        {"groups": 3},
        {"seed": 2},
        {"drop_near": True},
    ]
    hashes = {
        dataclasses.replace(definition(), negatives=dataclasses.replace(CHOICE, **change)).hash("f")
        for change in changes
    }
    assert len(hashes) == len(changes)


def test_other_scores_hash_as_they_did_before() -> None:
    assert set(define(["a", "b"]).to_json()) == {"concepts", "templates", "score", "temperature"}


def test_negatives_go_with_neglabel_only() -> None:
    with pytest.raises(InvalidDefinition, match="negatives go with the score 'neglabel'; 'mcm' has none"):
        define(["a", "b"], negatives=CHOICE)
    with pytest.raises(InvalidDefinition, match="the score 'neglabel' needs negatives: a NegativesChoice"):
        Definition(define(["a"], score="energy").concepts, score="neglabel")


def test_a_detector_has_negatives_where_its_score_has_and_nowhere_else() -> None:
    negatives = Negatives(("w",), rows(1), 1)
    with pytest.raises(InvalidEmbeddings, match="'neglabel' needs the embeddings of its negatives"):
        Detector(definition(), "f", rows(1))
    with pytest.raises(InvalidEmbeddings, match="'energy' has no negatives"):
        Detector(define(["a"], score="energy"), "f", rows(1), negatives=negatives)
    with pytest.raises(InvalidEmbeddings, match="embeddings of one length"):
        Detector(definition(), "f", rows(1, 8), negatives=negatives)
    with pytest.raises(InvalidEmbeddings, match="every negative embedding must have length 1"):
        Detector(definition(), "f", rows(1), negatives=Negatives(("w",), 2 * rows(1), 1))


def test_a_verdict_names_the_negative_that_pulled_most() -> None:
    made = detector(2, 30, 3)
    assert made.negatives is not None
    verdicts = made.judge(made.negatives.matrix)
    assert [verdict.negative for verdict in verdicts] == list(made.negatives.words)
    assert all(verdict.lift is None for verdict in verdicts)


def test_other_scores_name_no_negative() -> None:
    (verdict,) = Detector(define(["a"], score="energy"), "f", rows(1)).judge(rows(1))
    assert verdict.negative is None


def test_known_images_score_high_and_others_low() -> None:
    encoder = ColourEncoder()
    made, report = build_and_report(definition("red", "Green"), encoder, vocabulary=WORDS)
    assert report is not None
    assert made.negatives is not None
    assert (report.duplicates, report.candidates) == (("green",), 60)
    known, other = made.scores(np.stack([encoder.encode_texts(["red"])[0], made.negatives.matrix[0]]))
    assert known > 0.99
    assert other < 0.6  # one of the two groups pulls it away whole


def test_the_detectors_score_is_the_formulas() -> None:
    made, images = detector(3, 40, 4), rows(9)
    assert made.negatives is not None
    similarities = (images.astype(float) @ made.matrix.T.astype(float)).astype(np.float32)
    to_negatives = (images.astype(float) @ made.negatives.matrix.T.astype(float)).astype(np.float32)
    expected = neglabel(energy(similarities, 0.01), to_negatives, 4, 0.01)
    np.testing.assert_allclose(made.scores(images), expected, rtol=1e-9)


def test_a_verdict_does_not_depend_on_the_other_images() -> None:
    made, images = detector(3, 40, 4), rows(50)
    alone = [made.judge(row[None])[0] for row in images]
    assert made.judge(images) == alone


def test_another_vocabulary_than_the_definitions_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="are not those of the definition's negatives"):
        build_detector(definition(), ColourEncoder(), vocabulary=vocabulary("words", ["other"] * 1))


def test_memory_is_bounded_by_the_block_and_not_by_the_images() -> None:
    made = detector(100, 10_900, 100, dim=4)  # 11,000 texts
    peaks = []
    for n in (1_500, 6_000):
        images = rows(n, 4)
        tracemalloc.start()
        made.scores(images)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]  # four times the images, and 528 MB of cosines if they were kept
    assert peaks[1] < 300e6


def test_a_detector_file_judges_as_the_detector_does() -> None:
    made, images = detector(3, 40, 4), rows(20)
    text = write_detector_file(made, "colours")
    read = read_detector_file(text)
    assert read.judge(images) == made.judge(images)
    assert read.definition_hash == made.definition_hash
    assert write_detector_file(read, "colours") == text


def test_a_detector_file_without_its_vocabularys_hash_is_refused() -> None:
    data = json.loads(write_detector_file(detector(3, 40, 4), "colours"))
    del data["definition"]["negatives"]["vocabulary_hash"]
    with pytest.raises(InvalidDetectorFile, match="vocabulary_hash of the negatives must be a text"):
        read_detector_file(json.dumps(data))
