"""What goes wrong ends with one line and code 2, before any work is done."""

from pathlib import Path

import pytest

from tests.mcm.cli.conftest import Run, paint

ONE_OF = "give exactly one of --concepts, --concepts-file, --detector-file, --detector"


@pytest.fixture
def folder(here: Path) -> Path:
    paint(here / "cat.png", (1, 0, 0))
    (here / "empty").mkdir()
    (here / "words.txt").write_text("no detector\n")
    return here


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("score", "Missing argument"),
        ("score nowhere.png --concepts a,b", "'nowhere.png' does not exist"),
        ("score empty --concepts a,b", "there are no images in empty"),
        ("score cat.png", ONE_OF),
        ("score cat.png --concepts a,b --detector pets", ONE_OF),
        ("score cat.png --concepts a,b --concepts-file words.txt", ONE_OF),
        ("score cat.png --concepts a,,b", "concept 1 is blank"),
        ("score cat.png --concepts a", "use max-logit or energy"),
        ("score cat.png --concepts a,b --score magic", "there is no score 'magic'"),
        ("score cat.png --concepts a,b --temperature 0", "temperature must be"),
        ("score cat.png --concepts a,b --template plain", "must contain {} exactly once"),
        ("score cat.png --concepts a,b --top-k 0", "--top-k"),
        ("score cat.png --concepts a,b --top-k many", "--top-k"),
        ("score cat.png --concepts a,b --threshold nan", "--threshold must be a finite number"),
        ("score cat.png --concepts a,b --jobs 0", "--jobs"),
        ("score cat.png --concepts a,b --out scores.xlsx", "end in .csv, .jsonl, .parquet"),
        ("score cat.png --concepts a,b --out scores", "end in .csv, .jsonl, .parquet"),
        ("score cat.png --concepts a,b --out no/where.csv", "its folder does not exist"),
        ("score cat.png --concepts a,b --unknown", "No such option: --unknown"),
        ("score cat.png --concepts-file nowhere.txt", "'nowhere.txt' does not exist"),
        ("score cat.png --detector pets", "give --server URL or set MCM_SERVER"),
        ("score cat.png --detector-file words.txt", "words.txt: the detector file is not JSON"),
        ("score cat.png --detector-file nowhere.json", "nowhere.json: No such file"),
        ("score cat.png --detector-file words.txt --temperature 1", "--temperature goes with concepts"),
        ("score cat.png --detector-file d.json --server http://x", "mcm detector import d.json"),
        ("score cat.png --concepts a,b --server http://x --encoder builtin", "leave out one of the two"),
        ("score cat.png --concepts a,b --server ftp://x", "ftp://x"),
        ("detector", ""),
        ("detector create pets", "give exactly one of --concepts, --concepts-file"),
        ("detector create --concepts a,b", "give either NAME"),
        ("detector create pets --concepts a,b --detector-file d.json", "give either NAME"),
        ("detector create --concepts a,b --detector-file d.txt", "end in .json"),
        ("detector create --concepts a,b --detector-file d.json --server http://x", "--server is for"),
        ("detector create pets --concepts a,b --encoder builtin", "--encoder is for --detector-file"),
        ("detector show", "give either NAME"),
        ("detector import nowhere.json", "'nowhere.json' does not exist"),
        ("detector import words.txt", "words.txt: the detector file is not JSON"),
        ("calibrate cat.png", "give exactly one of --detector, --detector-file"),
        ("calibrate --detector-file d.json", "give one of: images of the classes that you know, --stored"),
        ("calibrate cat.png --detector-file d.json --threshold 1", "give one of"),
        ("calibrate --detector-file d.json --threshold 1 --method paper", "--method goes with images"),
        ("calibrate cat.png --detector-file d.json --method magic", "no calibration method 'magic'"),
        ("calibrate cat.png --detector-file d.json --false-alarm-rate 1", "between 0 and 1"),
        ("calibrate cat.png --detector pets", "give --server URL or set MCM_SERVER"),
        ("embed cat.png", "Missing option '--out'"),
        ("embed cat.png --out e.csv", "end in .parquet, .npz, .jsonl"),
        ("serve --port 99999", "--port"),
        ("frobnicate", "No such command 'frobnicate'"),
        ("", ""),
    ],
)
def test_a_wrong_command_line_ends_with_one_line_and_code_2(
    run: Run, folder: Path, line: str, part: str
) -> None:
    before = sorted(folder.iterdir())
    ended = run(*line.split())
    assert ended.code == 2
    assert part in ended.err
    if part:
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        "score cat.png --concepts a,b --server http://127.0.0.1:9",
        "score cat.png --detector pets --server http://127.0.0.1:9",
        "detector list --server http://127.0.0.1:9",
        "detector create pets --concepts a,b --server http://127.0.0.1:9",
        "calibrate cat.png --detector pets --server http://127.0.0.1:9",
        "models --server http://127.0.0.1:9",
        "embed cat.png --out e.jsonl --server http://127.0.0.1:9",
    ],
)
def test_a_server_that_does_not_answer_is_named_with_the_next_step(
    run: Run, folder: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run(*line.split())
    assert ended.code == 2
    assert "http://127.0.0.1:9" in ended.err
    assert "mcm serve" in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "e.jsonl").exists()


def test_an_error_of_the_file_system_is_one_line(run: Run, folder: Path) -> None:
    (folder / "folder.json").mkdir()
    ended = run("score", "cat.png", "--concepts", "red,blue", "--json", "folder.json/x/y.json")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert "No such file or directory" in ended.err


def test_help_and_version_are_printed(run: Run) -> None:
    assert run("--version").out.startswith("mcm ")
    for command in ("score", "calibrate", "embed", "models", "serve", "detector"):
        ended = run(command, "--help")
        assert ended.code == 0
        assert "Usage: mcm" in ended.out or "Usage: " in ended.out
        assert command in run("--help").out
