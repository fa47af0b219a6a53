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

from app.errors import PROBLEMS
from app.main import create_app
from app.settings import Settings
from tests.fakes import ColourEncoder
from tests.readme import README, Block, blocks
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


@pytest.mark.parametrize("task", ["serve", "test"])
def test_the_two_commands_are_tasks(task: str) -> None:
    assert f"make {task}" in TASKS.text
    subprocess.run(["make", "--dry-run", task], cwd=ROOT, check=True, capture_output=True)


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


def test_every_setting_is_in_the_table_with_its_default() -> None:
    for row in setting_rows():
        assert row in README.read_text()


def test_every_route_is_in_the_table() -> None:
    paths = create_app(Settings(), ColourEncoder()).openapi()["paths"]
    for path, operations in paths.items():
        for method in operations:
            assert re.search(rf"^\| `{method.upper()} {re.escape(path)}`", README.read_text(), re.MULTILINE)


def test_every_problem_type_is_in_the_table() -> None:
    for status, code, _ in PROBLEMS.values():
        assert re.search(rf"^\| {status} \|.*`{code}`", README.read_text(), re.MULTILINE), (status, code)


def setting_rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        default = "" if field.default == () else f"`{field.default}`"
        yield f"| `MCM_{name.upper()}` | {default} | {field.description} |"
