"""`mcm` as a process: terminals, signals, pipes, and what it loads."""

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mcm.cli.conftest import paint

MCM = (sys.executable, "-m", "mcm.cli")
RANDOM = "ViT-B-32-quickgelu/random:0"
FAKE_MCM = (sys.executable, "-m", "tests.mcm.cli.fake_mcm")
ROOT = Path(__file__).resolve().parents[3]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MCM_")}
    return kept | {"PYTHONPATH": str(ROOT)} | variables


def on_terminal(*command: object, **variables: str) -> tuple[int, str]:
    """Exit code and output of a command whose stdout and stderr are a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(COLUMNS="200", TERM="xterm-256color", **variables),
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return process.wait(), b"".join(parts).decode()


def test_a_terminal_gets_a_table_in_colour_and_progress(photos: Path) -> None:
    (photos / "[red].png").write_bytes(b"")
    command = (*FAKE_MCM, "score", photos, "--concepts", "red,green", "--threshold", 0.6)
    code, text = on_terminal(*command)
    assert code == 1
    assert "scoring" in text
    for words in ("image", "verdict", "photos/red/red.png", "OOD", "in distribution", "photos/[red].png"):
        assert words in text
    assert "\x1b[1;31mOOD" in text
    code, plain = on_terminal(*command, NO_COLOR="1")
    assert "31mOOD" not in plain
    assert "OOD" in plain


def test_a_reader_who_leaves_early_sees_no_error(reds: Path) -> None:
    with subprocess.Popen(
        [*FAKE_MCM, "detector", "create", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_ctrl_c_ends_with_130_and_leaves_nothing_behind(here: Path) -> None:
    os.mkfifo("never.png")
    process = subprocess.Popen(
        [*FAKE_MCM, "score", "never.png", "--concepts", "red,green", "--out", "s.csv"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    with open("never.png", "wb"):  # waits until the command reads the image, which then has no end
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert os.listdir() == ["never.png"]


@pytest.mark.parametrize("judge", [["--detector", "pets"], ["--concepts", "cat,dog"]])
def test_ctrl_c_does_not_wait_for_a_server_that_never_answers(here: Path, judge: list[str]) -> None:
    paint(here / "red.png", (1, 0, 0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*MCM, "score", "red.png", *judge, "--server", url],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with silent.accept()[0] as connection:
            assert connection.recv(1)  # the request has arrived
            process.send_signal(signal.SIGINT)
            try:
                _, told = process.communicate(timeout=20)  # it waits 60 s for an answer
            finally:
                process.kill()
    assert process.returncode == 130
    assert "Traceback" not in told


def test_ctrl_c_does_not_wait_for_a_file_that_never_ends(here: Path) -> None:
    os.mkfifo("never.png")
    process = subprocess.Popen(
        [*FAKE_MCM, "score", "never.png", "--concepts", "red,green"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with open("never.png", "wb"):  # waits until the command reads the image, and stays open
        process.send_signal(signal.SIGINT)
        try:
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in told


def test_help_loads_no_torch_no_http_and_no_rich_tables() -> None:
    code = (
        "import sys\nsys.argv = ['mcm', 'models']\nimport mcm.cli\n"
        "heavy = {'torch', 'httpx', 'open_clip', 'fastapi', 'scipy', 'pyarrow', 'app'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_serve_is_the_service_even_beside_an_app_folder_and_takes_signals(here: Path) -> None:
    (here / "app").mkdir()
    for name in ("__init__.py", "__main__.py"):
        (here / "app" / name).write_text("raise SystemExit('the wrong app')")
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("mcm")),
            "serve",
            "--port",
            "0",
            "--encoder",
            RANDOM,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment() | {"PYTHONPATH": ""},
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert " at http://127.0.0.1:" in first
        assert any("] ready " in line for line in process.stdout)
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, rest


@pytest.mark.parametrize("spec", ["builtin", RANDOM])
def test_real_encoders_score_from_the_command_line(here: Path, spec: str) -> None:
    paint(here / "red.png", (1, 0, 0))
    ended = subprocess.run(
        [*MCM, "score", "red.png", "--concepts", "tomato,lawn", "--encoder", spec],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    name, concept, score, _, p_value, verdict = ended.stdout.rstrip("\n").split("\t")
    assert (name, p_value, verdict) == ("red.png", "-", "no threshold")
    assert concept in ("tomato", "lawn")
    assert 0.5 <= float(score) < 0.75
