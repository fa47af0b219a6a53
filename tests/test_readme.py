"""The README is true: its code blocks run and print what it says, its tables are complete."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.readme import README, Block, blocks, with_tables
from tests.server import ROOT, SERVICE, Server, running

URL = "http://127.0.0.1:8000"
# Blocks that need Docker, a GPU or a hub would be listed here, with the reason; there is none.
NOT_RUN: dict[str, str] = {}
TASKS, *REST = blocks()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("readme"), SERVICE) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run: the examples and the README, and room for what they write."""
    folder = tmp_path_factory.mktemp("here")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(README, folder)
    return folder


def run(block: Block, folder: Path, url: str) -> str:
    text = block.text.replace(URL, url)
    interpreter = {"bash": ["bash", "-euo", "pipefail", "-c", text], "python": [sys.executable, "-c", text]}
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        interpreter[block.language], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers_apart(text: str) -> tuple[str, list[float]]:
    """The text with its decimal numbers taken out, and these: they differ a little between processors."""
    decimal = r"-?\d+\.\d+(?:e-?\d+)?"
    return re.sub(decimal, "#", text), [float(number) for number in re.findall(decimal, text)]


def assert_same(said: str, printed: str) -> None:
    (said_text, said_numbers), (text, numbers) = numbers_apart(said), numbers_apart(printed)
    assert text.strip() == said_text.strip()
    assert numbers == pytest.approx(said_numbers, rel=2e-3, abs=1e-3)


def without_hashes(answer: dict[str, Any]) -> str:
    """An answer without what depends on the versions of libraries."""
    return json.dumps(answer | {"definition_hash": "", "model": {"name": answer["model"]["name"]}})


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("task", ["serve", "test"])
def test_the_two_commands_are_tasks_and_install_once(task: str) -> None:
    assert f"make {task}" in TASKS.text
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("this environment was not made by make")
    planned = make("--dry-run", task)
    assert planned.returncode == 0
    assert "pip install" not in planned.stdout


def test_make_serve_takes_a_port() -> None:
    assert "MCM_PORT='8123'" in make("--dry-run", "serve", "PORT=8123").stdout


def test_make_serve_beyond_loopback_without_keys_ends_with_both_ways_out() -> None:
    refused = make("serve", "HOST=0.0.0.0", "PORT=0")
    assert refused.returncode != 0
    assert "MCM_API_KEYS" in refused.stderr
    assert "MCM_ALLOW_ANONYMOUS=1" in refused.stderr
    assert "http://" not in refused.stdout


@pytest.mark.parametrize("block", REST, ids=[block.text.splitlines()[0][:60] for block in REST])
def test_a_block_runs_and_prints_what_the_readme_says(block: Block, folder: Path, server: Server) -> None:
    if block.text in NOT_RUN:
        pytest.skip(NOT_RUN[block.text])
    printed = run(block, folder, server.url)
    if block.output is None:
        return
    if block.output.startswith("{"):
        assert_same(without_hashes(json.loads(block.output)), without_hashes(json.loads(printed)))
    else:
        assert_same(block.output, "".join(printed.splitlines(keepends=True)[: block.output.count("\n")]))


def test_the_tables_are_what_the_code_says() -> None:
    assert README.read_text() == with_tables(README.read_text()), "python -m tests.readme writes them"
