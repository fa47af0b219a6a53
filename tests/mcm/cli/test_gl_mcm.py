"""gl-mcm on the command line, here and on a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcm.definition import define
from mcm.detector_file import read_detector_file
from mcm.images import load_image
from mcm.prompts import build_detector
from tests.fakes import PatchColourEncoder
from tests.mcm.cli.conftest import Ended, Run

GL = ("--concepts", "red,green", "--score", "gl-mcm", "--local-weight", 0.25)


def results(ended: Ended) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = json.loads(ended.out)["results"]
    return found


def test_the_scores_are_the_librarys_here_and_on_a_server(run: Run, server: str, photos: Path) -> None:
    encoder = PatchColourEncoder()
    detector = build_detector(define(["red", "green"], score="gl-mcm", local_weight=0.25), encoder)
    files = [photos / colour / f"{colour}.png" for colour in ("blue", "green", "red")]
    pixels = np.stack([encoder.prepare(load_image(file.read_bytes())) for file in files])
    rows, patches = encoder.encode_patches(pixels)
    expected = detector.scores(rows, local=detector.local(rows, patches)).tolist()
    here = results(run("score", photos, *GL, "--json", "-"))
    there = results(run("score", photos, *GL, "--json", "-", "--server", server))
    assert [row["score"] for row in here] == [row["score"] for row in there] == expected
    assert {row["definition_hash"] for row in here + there} == {detector.definition_hash}
    assert [row["score_name"] for row in here] == ["gl-mcm"] * 3


def test_a_detector_file_is_made_calibrated_and_used(run: Run, reds: Path) -> None:
    assert run("detector", "create", "--detector-file", "d.json", *GL).code == 0
    definition = read_detector_file(Path("d.json").read_bytes()).definition
    assert (definition.score, definition.local_weight) == ("gl-mcm", 0.25)
    assert "local weight\t0.25" in run("detector", "show", "--detector-file", "d.json").out
    assert run("calibrate", reds, "--detector-file", "d.json").code == 0
    rows = results(run("score", reds, "--detector-file", "d.json", "--json", "-"))
    assert [row["is_ood"] for row in rows] == [False] * 30
    kept = read_detector_file(Path("d.json").read_bytes()).calibration.scores
    assert sorted(row["score"] for row in rows) == kept.tolist()


def test_a_server_gets_the_local_weight(run: Run, server: str) -> None:
    assert run("detector", "create", "gl", *GL, "--server", server).code == 0
    assert "local weight\t0.25" in run("detector", "show", "gl", "--server", server).out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--concepts", "a,b", "--local-weight", 1], "local_weight goes with the score 'gl-mcm'"),
        (["--concepts", "a,b", "--score", "gl-mcm", "--local-weight", -1], "local_weight must be a number"),
        (["--detector-file", "d.json", "--local-weight", 1], "--local-weight goes with concepts"),
    ],
)
def test_a_local_weight_out_of_place_is_refused(
    run: Run, photos: Path, options: list[object], reason: str
) -> None:
    ended = run("score", photos, *options)
    assert ended.code == 2
    assert reason in ended.err
