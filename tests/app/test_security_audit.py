"""`make audit` succeeds only if pip-audit has truly looked every package up."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit import failures, unreachable
from tests.server import ROOT

PACKAGES = [("structlog", "26.1.0"), ("Jinja2", "3.1.6"), ("ruamel.yaml", "0.18.0")]


def report(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def clean(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "vulns": []}


def vulnerable(name: str, version: str, *fixes: str) -> dict[str, Any]:
    vuln = {
        "id": "PYSEC-2021-98",
        "fix_versions": list(fixes),
        "aliases": ["CVE-2021-33203"],
        "description": "x",
    }
    return {"name": name, "version": version, "vulns": [vuln]}


def skipped(name: str, version: str) -> dict[str, Any]:
    """As pip-audit 2.10.1 writes it when its data cannot be reached; it then ends with 0."""
    reason = f"Dependency not found on PyPI and could not be audited: {name} ({version})"
    return {"name": name, "skip_reason": reason}


ALL_CLEAN = report(*[clean(name.lower(), version) for name, version in PACKAGES])
CANARY_FOUND = report(vulnerable("django", "2.0", "2.2.24"))


def test_all_looked_up_and_nothing_found_is_success() -> None:
    assert unreachable(CANARY_FOUND) == []
    assert failures(ALL_CLEAN, PACKAGES) == []


@pytest.mark.parametrize(
    "canary",
    [report(skipped("django", "2.0")), report(clean("django", "2.0")), report(), "", "null", "not json"],
)
def test_a_known_vulnerability_that_is_not_found_is_a_failure_that_says_why(canary: str) -> None:
    (line,) = unreachable(canary)
    assert "the vulnerability data cannot be reached" in line


def test_what_was_skipped_is_a_failure_that_names_it() -> None:
    offline = report(*[skipped(name, version) for name, version in PACKAGES])
    assert failures(offline, PACKAGES) == ["not looked up: jinja2, ruamel-yaml, structlog (3 in all)"]


@pytest.mark.parametrize("rest", [[skipped("structlog", "26.1.0")], []], ids=["skipped", "left out"])
def test_one_package_that_was_not_looked_up_is_a_failure(rest: list[dict[str, Any]]) -> None:
    partly = report(clean("jinja2", "3.1.6"), clean("ruamel_yaml", "0.18.0"), *rest)
    assert failures(partly, PACKAGES) == ["not looked up: structlog (1 in all)"]


def test_a_vulnerable_package_is_a_failure_that_names_it_and_its_fix() -> None:
    bad = report(
        vulnerable("structlog", "26.1.0", "26.1.1"),
        vulnerable("jinja2", "3.1.6"),
        clean("ruamel-yaml", "0.18.0"),
    )
    assert failures(bad, PACKAGES) == [
        "structlog 26.1.0 has PYSEC-2021-98; fixed in 26.1.1",
        "jinja2 3.1.6 has PYSEC-2021-98; no fix is known",
    ]


@pytest.mark.parametrize("nothing", ["", "[]", "null", "{}", "No known vulnerabilities found"])
def test_no_report_is_a_failure(nothing: str) -> None:
    assert failures(nothing, PACKAGES) == ["not looked up: jinja2, ruamel-yaml, structlog (3 in all)"]


@pytest.mark.parametrize("answer", [report(skipped("django", "2.0")), ""], ids=["skipped", "nothing"])
def test_the_command_fails_with_one_line_when_pip_audit_says_that_all_is_well_and_has_no_data(
    tmp_path: Path, answer: str
) -> None:
    done = audited(tmp_path, answer)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the vulnerability data cannot be reached")


def test_the_command_fails_when_only_the_canary_was_looked_up(tmp_path: Path) -> None:
    done = audited(tmp_path, CANARY_FOUND)
    assert done.returncode == 1
    assert "error: not looked up: " in done.stderr


def audited(folder: Path, answer: str) -> "subprocess.CompletedProcess[str]":
    """The audit command with a pip-audit that gives this answer and, as the real one does, ends with 0."""
    stub = folder / "pip-audit"
    stub.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\necho No known vulnerabilities found >&2\n")
    stub.chmod(0o755)
    command = [sys.executable, "-m", "benchmarks.audit", str(stub)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
