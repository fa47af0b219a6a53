import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcm import build_detector, define
from mcm.cli.rows import COLUMNS
from mcm.embeddings import unit_rows
from tests.fakes import ColourEncoder
from tests.mcm.cli.conftest import Ended, Run, paint


def cells(ended: Ended) -> list[list[str]]:
    return [line.split("\t") for line in ended.out.splitlines()]


def results(ended: Ended) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(ended.out)["results"]
    return rows


def test_away_from_a_terminal_a_line_an_image_with_the_score_in_full(run: Run, photos: Path) -> None:
    ended = run("score", photos, "--concepts", "red,green")
    assert ended.code == 0
    assert [row[:2] for row in cells(ended)] == [
        ["photos/blue/blue.png", "red"],
        ["photos/green/green.png", "green"],
        ["photos/red/red.png", "red"],
    ]
    assert all(row[4:] == ["-", "no threshold"] for row in cells(ended))
    assert float(cells(ended)[2][3]) == 2 * float(cells(ended)[2][2])
    assert "3 images: 3 without a verdict (no threshold)" in ended.err


def test_the_scores_are_the_library_s(run: Run, photos: Path) -> None:
    encoder = ColourEncoder()
    detector = build_detector(define(["red", "green"], temperature=0.1), encoder)
    pixels = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    pixels[0, 0] = 255
    expected = detector.judge(unit_rows(encoder.encode_images(pixels)))[0]
    ended = run(
        "score", "photos/red", "--concepts", "red,green", "--temperature", 0.1, "--json", "-", "--top-k", 2
    )
    (row,) = results(ended)
    assert row["score"] == expected.score
    assert row["definition_hash"] == detector.definition_hash
    assert [match["concept"] for match in row["top"]] == ["red", "green"]
    assert row["top"][0]["similarity"] == expected.top[0].similarity


def test_a_threshold_gives_verdicts_in_words(run: Run, photos: Path) -> None:
    rows = results(run("score", photos, "--concepts", "red,green", "--json", "-"))
    threshold = rows[1]["score"]
    ended = run("score", photos, "--concepts", "red,green", "--threshold", threshold)
    assert [row[5] for row in cells(ended)] == ["OOD", "in distribution", "in distribution"]
    assert "3 images: 1 OOD, 2 in distribution" in ended.err


def test_bad_files_stand_in_their_place_are_listed_at_the_end_and_give_code_1(run: Run, photos: Path) -> None:
    (photos / "green" / "a.jpg").write_bytes(b"<html>")
    (photos / "green" / "notes.txt").write_text("no image, and not asked for")
    ended = run("score", photos, "--concepts", "red,green")
    assert ended.code == 1
    assert [row[0] for row in cells(ended)][1] == "photos/green/a.jpg"
    assert cells(ended)[1][5].startswith("error: ")
    assert "1 of 4 images could not be used:\n  photos/green/a.jpg: " in ended.err
    good = [row for row in cells(ended) if not row[5].startswith("error")]
    (photos / "green" / "a.jpg").unlink()
    assert good == cells(run("score", photos, "--concepts", "red,green"))


def test_every_result_file_holds_the_same_columns_and_numbers(run: Run, photos: Path) -> None:
    (photos / "green" / "a.jpg").write_bytes(b"<html>")
    shown = results(run("score", photos, "--concepts", "red,green", "--threshold", 0.6, "--json", "-"))
    for name in ("s.csv", "s.jsonl", "s.parquet"):
        ended = run("score", photos, "--concepts", "red,green", "--threshold", 0.6, "--out", name)
        assert ended.code == 1
        assert ended.out == ""
        assert f"written to {name}" in ended.err
    assert [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()] == shown
    assert pq.read_table("s.parquet").to_pylist() == shown
    with open("s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [float(row["score"]) if row["score"] else None for row in rows] == [r["score"] for r in shown]
    assert [row["is_ood"] for row in rows] == ["true", "", "false", "false"]
    assert rows[1]["error"] == shown[1]["error"]
    assert json.loads(rows[0]["top"]) == shown[0]["top"]


def test_a_result_file_appears_only_when_it_is_whole(run: Run, photos: Path) -> None:
    paint(photos / "red" / "poison.png", (1, 0, 1))  # the encoder fails on it alone
    out = Path("scores.csv")
    out.write_text("from an earlier run\n")
    out.chmod(0o640)
    (photos / "blue" / "blue.png").rename(photos / "blue" / "blue.gif")
    ended = run("score", photos, "--concepts", "red,green", "--out", out)
    assert ended.code == 1
    assert out.read_text().count("\n") == 5
    assert out.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in Path().iterdir()) == ["photos", "scores.csv"]


def test_a_run_that_fails_leaves_the_earlier_file_alone(run: Run, photos: Path) -> None:
    out = Path("scores.csv")
    out.write_text("from an earlier run\n")
    ended = run("score", photos, "--concepts", "red,green", "--out", out, "--server", "http://127.0.0.1:9")
    assert ended.code == 2
    assert out.read_text() == "from an earlier run\n"
    assert sorted(p.name for p in Path().iterdir()) == ["photos", "scores.csv"]


def test_json_goes_to_a_file_beside_the_lines(run: Run, photos: Path) -> None:
    ended = run("score", photos, "--concepts", "red,green", "--json", "scores.json")
    written = json.loads(Path("scores.json").read_text())["results"]
    assert [row["name"] for row in written] == [row[0] for row in cells(ended)]


def test_what_is_odd_about_the_concepts_is_said_once(run: Run, photos: Path) -> None:
    long = "red " * 30
    ended = run("score", photos, "--concepts", f"green,Green,{long}")
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "'green' = 'Green'" in warnings[0]
    assert "too long" in warnings[1]
    assert ended.code == 0


def test_the_encoder_s_note_is_said(run: Run, photos: Path) -> None:
    assert "note: A fake for tests" in run("score", photos, "--concepts", "red,green").err


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_no_text_or_steers_a_terminal_is_written_out(run: Run, here: Path) -> None:
    red = paint(here / "red.png", (1, 0, 0)).read_bytes()
    Path(os.fsdecode(b"bad\xff.png")).write_bytes(red)
    Path("esc\x1b[31m\ttab.png").write_bytes(red)
    ended = run("score", ".", "--concepts", "red,green")
    assert [row[0] for row in cells(ended)] == ["bad\\udcff.png", "esc\\x1b[31m\\ttab.png", "red.png"]
    assert {len(row) for row in cells(ended)} == {6}
    for name in ("s.csv", "s.jsonl", "s.parquet"):
        assert run("score", ".", "--concepts", "red,green", "--out", name).code == 0
    assert pq.read_table("s.parquet")["name"].to_pylist()[0] == "bad\\udcff.png"


def test_a_detector_file_brings_its_threshold_and_its_p_values(run: Run, photos: Path, reds: Path) -> None:
    assert run("detector", "create", "--detector-file", "d.json", "--concepts", "red,green").code == 0
    assert run("calibrate", reds, "--detector-file", "d.json").code == 0
    rows = results(run("score", photos, "--detector-file", "d.json", "--json", "-"))
    assert [row["is_ood"] for row in rows] == [True, False, False]
    assert rows[0]["p_value"] == 1 / 31
    assert all(row["p_value"] > 0.5 for row in rows[1:])
    loose = results(run("score", photos, "--detector-file", "d.json", "--threshold", 0, "--json", "-"))
    assert [row["is_ood"] for row in loose] == [False] * 3


def test_another_encoder_than_the_detector_file_s_is_refused_and_both_are_named(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("detector", "create", "--detector-file", "d.json", "--concepts", "red,green")
    monkeypatch.setenv("MCM_ENCODER", "other-colours")
    ended = run("score", photos, "--detector-file", "d.json")
    assert ended.code == 2
    assert "builtin (colours-1)" in ended.err
    assert "other-colours" in ended.err
    assert "--encoder builtin" in ended.err
    assert run("score", photos, "--detector-file", "d.json", "--encoder", "builtin").code == 0


def test_a_detector_file_chooses_its_encoder_by_itself(run: Run, photos: Path) -> None:
    run("detector", "create", "--detector-file", "d.json", "--concepts", "red,green", "--encoder", "special")
    (row,) = results(run("score", photos / "red", "--detector-file", "d.json", "--json", "-"))
    assert (row["encoder"], row["fingerprint"]) == ("special", "special")
