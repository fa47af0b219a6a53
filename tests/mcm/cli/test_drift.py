"""`mcm detector drift`, with the real service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcm.cli.conftest import Run
from tests.server import running


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that watches drift."""
    with running(tmp_path_factory.mktemp("watching"), drift=1) as started:
        yield started.url


def test_drift_is_told_in_words_and_as_json(
    run: Run, watching: str, reds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCM_SERVER", watching)
    assert run("detector", "create", "pets", "--concepts", "red,green,blue").code == 0
    assert run("calibrate", reds, "--detector", "pets").code == 0
    assert "No images have been scored" in run("detector", "drift", "pets").out
    assert run("score", reds, "--detector", "pets").code == 0
    told = run("detector", "drift", "pets")
    assert told.code == 0
    assert "No drift is shown by the 30 images since the calibration" in told.out
    found = json.loads(run("detector", "drift", "pets", "--json", "-").out)
    assert (found["images"], found["alarm"]) == (30, False)


def test_a_service_that_does_not_watch_says_how_to_turn_it_on(run: Run, server: str) -> None:
    run("detector", "create", "unwatched", "--concepts", "red,green", "--server", server)
    ended = run("detector", "drift", "unwatched", "--server", server)
    assert ended.code != 0
    assert "MCM_DRIFT=1" in ended.err
