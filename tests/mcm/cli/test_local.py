"""Detectors as files, calibration and embeddings, without a server."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcm.detector_file import read_detector_file
from tests.mcm.cli.conftest import Ended, Run


def facts_of(ended: Ended) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in ended.out.splitlines())


@pytest.fixture
def pets(run: Run, here: Path) -> Path:
    ended = run(
        "detector", "create", "--detector-file", "d.json", "--concepts", "red,green", "--temperature", 0.5
    )
    assert ended.code == 0
    assert ended.out == "created d.json: 2 concepts, encoder builtin\n"
    return Path("d.json")


def test_a_created_file_is_a_detector(pets: Path) -> None:
    detector = read_detector_file(pets.read_bytes())
    assert detector.definition.names == ("red", "green")
    assert detector.definition.temperature == 0.5
    assert detector.threshold is None


def test_an_existing_file_is_replaced_only_when_asked(run: Run, pets: Path) -> None:
    before = pets.read_bytes()
    refused = run("detector", "create", "--detector-file", pets, "--concepts", "red,blue")
    assert refused.code == 2
    assert "--replace" in refused.err
    assert pets.read_bytes() == before
    assert run("detector", "create", "--detector-file", pets, "--concepts", "red,blue", "--replace").code == 0
    assert read_detector_file(pets.read_bytes()).definition.names == ("red", "blue")


def test_a_file_is_shown_in_words_and_as_json(run: Run, pets: Path) -> None:
    facts = facts_of(run("detector", "show", "--detector-file", pets))
    assert facts["concepts"] == "2: red, green"
    assert facts["temperature"] == "0.5"
    assert facts["encoder"] == "builtin"
    assert facts["threshold"].startswith("none: calibrate")
    shown = json.loads(run("detector", "show", "--detector-file", pets, "--json", "-").out)
    assert shown["definition"]["concepts"] == ["red", "green"]
    assert shown["certificate"] is None


def test_calibrating_sets_a_threshold_with_its_promise(run: Run, pets: Path, reds: Path) -> None:
    ended = run("calibrate", reds, "--detector-file", pets, "--false-alarm-rate", 0.1, "--json", "c.json")
    assert ended.code == 0
    certificate = json.loads(Path("c.json").read_text())
    detector = read_detector_file(pets.read_bytes())
    assert certificate["threshold"] == detector.threshold
    assert (certificate["n"], certificate["k"], certificate["errors"]) == (30, 3, [])
    facts = facts_of(ended)
    assert float(facts["threshold"]) == detector.threshold
    assert facts["promise"] == certificate["promise"]


def test_bad_images_are_listed_and_the_others_calibrate(run: Run, pets: Path, reds: Path) -> None:
    (reds / "05.png").write_bytes((reds / "05.png").read_bytes()[:40])
    ended = run("calibrate", reds, "--detector-file", pets, "--json", "-")
    assert ended.code == 1
    assert [error["name"] for error in json.loads(ended.out)["errors"]] == ["reds/05.png"]
    assert "1 of 30 images could not be used:\n  reds/05.png: " in ended.err
    assert len(read_detector_file(pets.read_bytes()).calibration.scores) == 29


def test_too_few_images_for_the_promise_change_nothing_and_say_how_many(
    run: Run, pets: Path, photos: Path
) -> None:
    (photos / "bad.png").write_bytes(b"")
    before = pets.read_bytes()
    ended = run("calibrate", photos, "--detector-file", pets)
    assert ended.code == 2
    assert "at least 19 are needed, 16 more" in ended.err
    assert "photos/bad.png" in ended.err
    assert pets.read_bytes() == before
    assert sorted(p.name for p in Path().iterdir()) == ["d.json", "photos"]


def test_a_threshold_set_by_hand_keeps_the_scores(run: Run, pets: Path, reds: Path) -> None:
    run("calibrate", reds, "--detector-file", pets)
    ended = run("calibrate", "--detector-file", pets, "--threshold", 0.25)
    assert ended.code == 0
    assert "none: the threshold was set by hand" in ended.out
    detector = read_detector_file(pets.read_bytes())
    assert detector.threshold == 0.25
    assert len(detector.calibration.scores) == 30
    assert run("calibrate", "--detector-file", pets, "--threshold", "inf").code == 2


def test_a_forged_detector_file_is_refused_with_its_name(run: Run, pets: Path, reds: Path) -> None:
    run("calibrate", reds, "--detector-file", pets)
    data = json.loads(pets.read_text())
    data["certificate"]["threshold"] = 0.01
    pets.write_text(json.dumps(data))
    ended = run("score", reds, "--detector-file", pets)
    assert ended.code == 2
    assert "error: d.json: the detector file's certificate claims threshold 0.01" in ended.err


def test_embeddings_are_written_in_three_formats(run: Run, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    for name in ("e.jsonl", "e.parquet", "e.npz"):
        ended = run("embed", photos, "--out", name)
        assert ended.code == 1
        assert "photos/bad.png: " in ended.err
        assert f"3 embeddings written to {name}" in ended.err
    lines = [json.loads(line) for line in Path("e.jsonl").read_text().splitlines()]
    rows = pq.read_table("e.parquet").to_pylist()
    assert [row["name"] for row in lines] == [row["name"] for row in rows]
    assert lines[0]["embedding"] is None
    assert lines[0]["error"]
    with np.load("e.npz") as arrays:
        assert arrays["embedding"].dtype == np.float32
        for given in (lines, rows):
            good = [row for row in given if row["error"] is None]
            assert arrays["name"].tolist() == [row["name"] for row in good]
            np.testing.assert_array_equal(
                arrays["embedding"], np.array([row["embedding"] for row in good], dtype=np.float32)
            )
            assert {row["fingerprint"] for row in good} == {"colours-1"}


def test_a_local_encoder_is_shown(run: Run) -> None:
    facts = facts_of(run("models", "--encoder", "colours"))
    assert (facts["name"], facts["dim"]) == ("colours", "16")
    (model,) = json.loads(run("models", "--encoder", "colours", "--json", "-").out)["models"]
    assert model["note"] == "A fake for tests; it knows colours only."
