"""The same commands with a server: the real one, in a process of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcm.cli.rows import COLUMNS
from mcm.detector_file import read_detector_file
from tests.mcm.cli.conftest import Run, paint


@pytest.fixture
def remote(run: Run, server: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands with MCM_SERVER set."""
    monkeypatch.setenv("MCM_SERVER", server)
    return run


def rows(run: Run, *arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*arguments, "--json", "-").out)["results"]
    return found


def assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Equal in all columns, numbers to 1e-6; the words of errors and the encoder's name may differ."""
    for mine, its in zip(first, second, strict=True):
        for name in COLUMNS.keys() - {"error", "encoder", "top"}:
            assert mine[name] == (
                pytest.approx(its[name], abs=1e-6) if COLUMNS[name] == "number" else its[name]
            )
        assert (mine["error"] is None) == (its["error"] is None)
        for match, its_match in zip(mine["top"] or [], its["top"] or [], strict=True):
            assert match == pytest.approx(its_match, abs=1e-6)


def test_concepts_score_the_same_here_and_on_a_server(run: Run, server: str, photos: Path) -> None:
    (photos / "green" / "bad.png").write_bytes(b"<html>")
    Path("concepts.json").write_text('["red", "Red", {"name": "sea", "prompts": ["blue sea", "green sea"]}]')
    options = [
        "--temperature",
        "0.2",
        "--top-k",
        "2",
        "--score",
        "energy",
        "--threshold",
        "0.9",
        "--json",
        "-",
    ]
    templates = ("--template", "a {}", "--template", "the {}")
    command = ("score", photos, "--concepts-file", "concepts.json", *options, *templates)
    here = run(*command)
    there = run(*command, "--server", server)
    assert here.code == there.code == 1
    assert_same(json.loads(here.out)["results"], json.loads(there.out)["results"])
    assert "photos/green/bad.png: " in there.err
    assert "warning: concepts that are the same" in here.err
    assert "warning: concepts that are the same" in there.err


def test_a_detector_moves_from_file_to_server_and_back_with_its_certificate(
    run: Run, server: str, photos: Path, reds: Path
) -> None:
    run("detector", "create", "--detector-file", "moved.json", "--concepts", "red,green,blue")
    run("calibrate", reds, "--detector-file", "moved.json")
    imported = run("detector", "import", "moved.json", "--server", server)
    assert imported.code == 0
    assert imported.out.startswith("imported moved: 3 concepts, threshold 0.")
    assert run("detector", "export", "moved", "back.json", "--server", server).code == 0
    assert Path("back.json").read_text().replace('"colours"', '"builtin"') == Path("moved.json").read_text()
    assert (
        read_detector_file(run("detector", "export", "moved", "--server", server).out).threshold is not None
    )
    here = rows(run, "score", photos, "--detector-file", "moved.json")
    there = rows(run, "score", photos, "--detector", "moved", "--server", server)
    assert here[0]["is_ood"] is not None
    assert_same(here, there)


def test_calibrating_gives_the_same_certificate_here_and_on_a_server(remote: Run, reds: Path) -> None:
    (reds / "03.png").write_bytes(b"")
    remote("detector", "create", "--detector-file", "d.json", "--concepts", "red,green")
    remote("detector", "create", "calibrated", "--concepts", "red,green")
    here = remote("calibrate", reds, "--detector-file", "d.json", "--method", "paper", "--json", "-")
    there = remote("calibrate", reds, "--detector", "calibrated", "--method", "paper", "--json", "-")
    assert here.code == there.code == 1
    mine, its = json.loads(here.out), json.loads(there.out)
    assert mine.pop("threshold") == pytest.approx(its.pop("threshold"), abs=1e-6)
    for certificate in (mine, its):
        assert [error["name"] for error in certificate.pop("errors")] == ["reds/03.png"]
        del certificate["created_at"]
    assert mine == its


def test_a_detector_is_made_shown_listed_and_deleted(remote: Run, here: Path) -> None:
    made = remote("detector", "create", "pets", "--concepts", "red,green", "--score", "max-logit")
    assert (made.code, made.out) == (0, "created pets: 2 concepts, encoder colours\n")
    taken = remote("detector", "create", "pets", "--concepts", "red,blue")
    assert taken.code == 2
    assert "pets" in taken.err
    assert remote("detector", "create", "pets", "--concepts", "red,blue,Red", "--replace").code == 0
    shown = json.loads(remote("detector", "show", "pets", "--json", "-").out)
    assert shown["definition"]["concepts"] == ["red", "blue", "Red"]
    assert "concepts\t3: red, blue, Red" in remote("detector", "show", "pets").out
    listed = remote("detector", "list")
    assert "pets\tmcm\t3\t" in listed.out
    summaries = json.loads(remote("detector", "list", "--json", "-").out)["detectors"]
    assert "pets" in [summary["name"] for summary in summaries]
    assert remote("detector", "delete", "pets").out == "deleted pets\n"
    gone = remote("detector", "show", "pets")
    assert gone.code == 2
    assert gone.err.count("\n") == 1
    assert remote("detector", "delete", "pets").code == 2


def test_a_threshold_is_set_on_a_server_by_hand(remote: Run, photos: Path) -> None:
    remote("detector", "create", "manual", "--concepts", "red,green")
    ended = remote("calibrate", "--detector", "manual", "--threshold", 0.6)
    assert ended.code == 0
    assert "threshold\t0.6" in ended.out
    assert {row["threshold"] for row in rows(remote, "score", photos, "--detector", "manual")} == {0.6}
    looser = rows(remote, "score", photos, "--detector", "manual", "--threshold", 0)
    assert [row["is_ood"] for row in looser] == [False] * 3


def test_embeddings_are_the_same_here_and_on_a_server(run: Run, server: str, photos: Path) -> None:
    paint(photos / "poison.png", (1, 0, 1))
    assert run("embed", photos, "--out", "here.jsonl").code == 1
    assert run("embed", photos, "--out", "there.jsonl", "--server", server).code == 1
    here, there = (Path(name).read_text().splitlines() for name in ("here.jsonl", "there.jsonl"))
    for mine, its in zip(map(json.loads, here), map(json.loads, there), strict=True):
        assert mine["name"] == its["name"]
        assert mine["embedding"] == pytest.approx(its["embedding"], abs=1e-6)


def test_the_models_of_a_server_are_shown(remote: Run) -> None:
    assert "name\tcolours\n" in remote("models").out


def test_a_detector_named_after_no_possible_name_is_refused(remote: Run, here: Path) -> None:
    ended = remote("detector", "create", "Pets!", "--concepts", "red,green")
    assert ended.code == 2
    assert "Pets!" in ended.err or "name" in ended.err
    assert remote("detector", "show", "../x").code == 2


def test_a_file_s_name_becomes_the_detector_s(remote: Run, here: Path) -> None:
    remote("detector", "create", "--detector-file", "My Pets (2).json", "--concepts", "red,green")
    ended = remote("detector", "import", "My Pets (2).json")
    assert ended.out == "imported my-pets-2: 2 concepts, not calibrated\n"
    again = remote("detector", "import", "My Pets (2).json")
    assert again.code == 2
    assert "--replace" in again.err
    assert remote("detector", "import", "My Pets (2).json", "--replace").code == 0
    ended = remote("detector", "import", "My Pets (2).json", "--name", "other")
    assert ended.out == "imported other: 2 concepts, not calibrated\n"
