"""The threat model names tests; each exists, and each test of security that it rests on is real."""

import ast
import re
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_threat_model_names_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_nothing_that_looks_like_a_named_test_is_overlooked() -> None:
    assert len(NAMED) > 30
    assert TEXT.count("::test_") == len(re.findall(r"`tests/[\w/]+\.py::test_\w+`", TEXT))


def test_every_claim_of_a_table_has_its_test_or_says_that_it_is_by_design() -> None:
    rows = [line for line in TEXT.splitlines() if re.match(r"\| (can|cannot) ", line)]
    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row and "by design" not in row] == []


def test_every_caller_has_its_section() -> None:
    assert {"An anonymous caller", "A malicious image"} <= set(
        re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    )
    assert re.search(r"^## A holder of a key", TEXT, flags=re.MULTILINE)
    assert re.search(r"^## An admin", TEXT, flags=re.MULTILINE)


def test_every_setting_that_it_names_exists() -> None:
    names = {name.removeprefix("MCM_").lower() for name in re.findall(r"\bMCM_[A-Z_]+\b", TEXT)}
    assert names <= Settings.model_fields.keys()
