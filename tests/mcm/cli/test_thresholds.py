"""Calibrating and judging by p-values: on this machine, and the same through a server."""

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcm.calibration import Calibration
from mcm.detector_file import read_detector_file
from tests.mcm.cli.conftest import Ended, Run, paint

NUMBERS = itertools.count()


@pytest.fixture
def reds(here: Path) -> Path:
    """Sixty images, from red to nearly red."""
    for shade in range(60):
        paint(here / "reds" / f"{shade:02}.png", (1 - shade / 255, shade / 400, 0))
    return Path("reds")


@pytest.fixture
def greens(here: Path) -> Path:
    """Sixty images, from green to nearly green."""
    for shade in range(60):
        paint(here / "greens" / f"{shade:02}.png", (shade / 100, 1 - shade / 255, 0))
    return Path("greens")


@pytest.fixture(params=["file", "server"])
def detector(request: pytest.FixtureRequest, run: Run, here: Path) -> tuple[object, ...]:
    """How to name a detector of red and green, on this machine or on a server."""
    concepts = ("--concepts", "red,green", "--temperature", 0.5)
    if request.param == "file":
        assert run("detector", "create", "--detector-file", "d.json", *concepts).code == 0
        return ("--detector-file", "d.json")
    at = ("--server", request.getfixturevalue("server"))
    name = f"thresholds-{next(NUMBERS)}"
    assert run("detector", "create", name, *concepts, *at).code == 0
    return ("--detector", name, *at)


@pytest.fixture
def stored(run: Run, detector: tuple[object, ...], here: Path) -> Callable[[], Calibration]:
    """What the detector's calibration is now."""

    def calibration() -> Calibration:
        if detector[0] == "--detector":
            assert run("detector", "export", detector[1], "d.json", *detector[2:]).code == 0
        return read_detector_file(Path("d.json").read_bytes()).calibration

    return calibration


def certificate_of(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_pac_keeps_its_confidence(run: Run, detector: tuple[object, ...], reds: Path) -> None:
    ended = run("calibrate", reds, *detector, "--method", "pac", "--confidence", 0.9, "--json", "-")
    made = certificate_of(ended)
    assert (made["method"], made["confidence"], made["n"], made["k"]) == ("pac", 0.9, 60, 1)
    assert made["promise"].startswith("With 90 % confidence, at most 5 %")


def test_pac_says_how_many_images_are_missing(run: Run, detector: tuple[object, ...], photos: Path) -> None:
    ended = run("calibrate", photos, *detector, "--method", "pac")
    assert ended.code == 2
    assert "at least 59 are needed, 56 more" in ended.err


def test_concepts_with_enough_images_have_thresholds_of_their_own(
    run: Run, detector: tuple[object, ...], reds: Path, greens: Path, stored: Callable[[], Calibration]
) -> None:
    ended = run("calibrate", reds, greens, *detector, "--per-concept", "--json", "-")
    made = certificate_of(ended)
    assert [(c["concept"], c["n"], c["k"]) for c in made["concepts"]] == [("green", 60, 3), ("red", 60, 3)]
    certificate = stored().certificate
    assert certificate is not None
    judged = json.loads(run("score", reds, greens, *detector, "--json", "-").out)["results"]
    for row in judged:
        assert row["threshold"] == pytest.approx(certificate.threshold_for(row["concept"]), abs=1e-9)
        assert row["is_ood"] == (row["score"] < row["threshold"])
    assert len({row["threshold"] for row in judged}) == 2
    assert "threshold of green" in run("calibrate", "--stored", *detector).out


def test_images_are_added_to_the_calibration_and_its_options_stay(
    run: Run, detector: tuple[object, ...], reds: Path, greens: Path, stored: Callable[[], Calibration]
) -> None:
    run("calibrate", reds, *detector, "--method", "pac", "--false-alarm-rate", 0.1)
    made = certificate_of(run("calibrate", greens, *detector, "--append", "--json", "-"))
    assert (made["n"], made["method"], made["false_alarm_rate"]) == (120, "pac", 0.1)
    assert stored().scores.size == 120


def test_images_that_were_added_twice_are_noticed(run: Run, detector: tuple[object, ...], reds: Path) -> None:
    run("calibrate", reds, *detector)
    ended = run("calibrate", reds, *detector, "--append")
    assert ended.code == 0
    assert "warning: most of the scores that were added were there already" in ended.err
    assert "OOD share" not in ended.err  # a set against itself cannot show any


def test_copies_and_the_lowest_scores_are_listed(run: Run, detector: tuple[object, ...], reds: Path) -> None:
    (reds / "copy.png").write_bytes((reds / "05.png").read_bytes())
    (reds / "bad.png").write_bytes(b"")
    (reds / "worse.png").write_bytes(b"")
    ended = run("calibrate", reds, *detector, "--json", "c.json")
    assert ended.code == 1
    assert "1 calibration images are copies of others (reds/05.png = reds/copy.png)" in ended.err
    lowest = json.loads(Path("c.json").read_text())["lowest"]
    assert len(lowest) == 10
    assert lowest == sorted(lowest, key=lambda entry: entry["score"])
    assert lowest[0]["name"] == "reds/59.png"
    assert f"  {lowest[0]['score']:.6g}  reds/59.png" in ended.err


def test_calibrating_again_tells_the_share_that_the_calibration_before_finds_odd(
    run: Run, detector: tuple[object, ...], reds: Path, here: Path
) -> None:
    run("calibrate", reds, *detector)
    for shade in range(60):
        paint(here / "blues" / f"{shade:02}.png", (shade / 400, 0, 1 - shade / 255))
    ended = run("calibrate", "blues", *detector, "--json", "c.json")
    share = json.loads(Path("c.json").read_text())["ood_share"]
    assert share > 0.9
    assert f"OOD share of these images by the calibration before: {share:.3f}" in ended.err
    assert "warning: measured against the calibration before, about " in ended.err


def test_stored_scores_calibrate_again_by_other_options(
    run: Run, detector: tuple[object, ...], reds: Path, stored: Callable[[], Calibration]
) -> None:
    refused = run("calibrate", "--stored", *detector)
    assert refused.code == 2
    run("calibrate", reds, *detector)
    before = stored().scores.tolist()
    made = certificate_of(run("calibrate", "--stored", *detector, "--false-alarm-rate", 0.2, "--json", "-"))
    assert (made["n"], made["k"]) == (60, 12)
    assert stored().scores.tolist() == before
    assert run("calibrate", "--stored", *detector, "--per-concept").code == 2


def test_the_scores_can_be_exported(
    run: Run, detector: tuple[object, ...], reds: Path, greens: Path, stored: Callable[[], Calibration]
) -> None:
    named = detector[1:] if detector[0] == "--detector" else detector
    assert run("detector", "scores", *named).code == 2
    run("calibrate", reds, greens, *detector, "--per-concept")
    assert run("detector", "scores", *named, "--out", "scores.csv").code == 0
    with open("scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == stored().scores.tolist()
    groups = stored().groups
    assert groups is not None
    assert tuple(row["concept"] for row in rows) == groups.concepts


@pytest.mark.parametrize("method", [(), ("--fdr-method", "storey")])
def test_the_fdr_is_kept_over_all_images_together(
    run: Run, detector: tuple[object, ...], reds: Path, photos: Path, method: tuple[str, ...]
) -> None:
    run("calibrate", reds, *detector)
    (photos / "bad.png").write_bytes(b"")
    for shade in range(4):
        paint(photos / f"{shade}.png", (0, 0, 1 - shade / 255))
    ended = run("score", photos, reds, *detector, "--fdr", 0.5, *method, "--json", "-")
    assert ended.code == 1
    answer = json.loads(ended.out)
    rows = {row["name"]: row["discovery"] for row in answer["results"]}
    assert rows["photos/blue/blue.png"] is True
    assert rows["photos/red/red.png"] is False
    assert rows["photos/bad.png"] is None
    assert answer["fdr"]["m"] == 67
    assert answer["fdr"]["discoveries"] == list(rows.values()).count(True)
    assert f"{answer['fdr']['discoveries']} discoveries among 67 images at FDR 50 %" in ended.err
    possible = answer["fdr"]["smallest_possible"]
    assert possible == (3 if not method else possible)  # ceil(67 / (0.5 * 61))
    assert ("fewer than 3 discoveries are impossible" in ended.err) == (possible == 3)


def test_the_fdr_needs_a_calibration(run: Run, detector: tuple[object, ...], reds: Path) -> None:
    run("calibrate", "--threshold", 0.5, *detector)
    ended = run("score", reds, *detector, "--fdr", 0.1)
    assert ended.code == 2
    assert "calibrate with in-distribution images" in ended.err
    refused = run("score", reds, "--concepts", "red,green", "--fdr", 0.1)
    assert "--fdr needs a calibrated detector" in refused.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("calibrate", "reds", "--confidence", 0.9), "--confidence goes with --method pac"),
        (
            ("calibrate", "reds", "--method", "pac", "--confidence", 1),
            "--confidence must lie between 0 and 1",
        ),
        (("calibrate", "reds", "--stored"), "give one of"),
        (("calibrate", "--threshold", 1, "--per-concept"), "--per-concept goes with images"),
        (("calibrate", "--stored", "--append"), "--append adds images"),
        (("calibrate", "reds", "--method", "paper", "--per-concept"), "choose split-conformal or pac"),
        (("score", "reds", "--fdr", 1), "--fdr must lie between 0 and 1"),
        (("score", "reds", "--fdr-method", "storey"), "--fdr-method goes with --fdr"),
        (("score", "reds", "--fdr", 0.1, "--fdr-method", "x"), "choose one of benjamini-hochberg, storey"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Run, reds: Path, options: tuple[object, ...], told: str
) -> None:
    run("detector", "create", "--detector-file", "d.json", "--concepts", "red,green")
    ended = run(*options, "--detector-file", "d.json")
    assert ended.code == 2
    assert told in ended.err
