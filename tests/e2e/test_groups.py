"""The whole road on real photographs, through `make serve`'s own command: HTTP, SDK and CLI agree."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import betabinom

from mcm.client import Client
from mcm.metrics import metrics
from tests.e2e.groups import Groups, groups
from tests.server import Server, running

MAKE_SERVE = ("make", "--no-print-directory", "serve")


@pytest.fixture(scope="module")
def photographs() -> Groups:
    return groups()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("groups"), MAKE_SERVE) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120, trust_env=False) as client:
        yield client


def post(http: httpx.Client, path: str, images: Sequence[Path], **fields: str) -> dict[str, Any]:
    files = [("images", (image.name, image.read_bytes())) for image in images]
    answer = http.post(path, files=files, data=fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def score(http: httpx.Client, images: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        result
        for chunk in (images[i : i + 100] for i in range(0, len(images), 100))
        for result in post(http, "/v1/detectors/groups/score", chunk, require_verdict="true")["results"]
    ]


@pytest.fixture(scope="module")
def certificate(http: httpx.Client, photographs: Groups) -> dict[str, Any]:
    created = http.post("/v1/detectors", json={"name": "groups", "concepts": photographs.names})
    assert created.status_code == 201, created.text
    return post(http, "/v1/detectors/groups/calibrate", photographs.calibration)


@pytest.fixture(scope="module")
def new(http: httpx.Client, photographs: Groups, certificate: dict[str, Any]) -> list[dict[str, Any]]:
    return score(http, photographs.new)


def test_the_first_lines_say_what_runs_and_give_a_curl_line_that_works(server: Server) -> None:
    said = "\n".join(server.lines[:5])
    assert "builtin" in said
    assert "NOT CLIP" in said
    assert "make serve ENCODER=ViT-B-16/openai" in said
    curl = next(line.removeprefix("try: ") for line in server.lines if line.startswith("try: "))
    answer = subprocess.run(f"{curl} --silent --fail", shell=True, capture_output=True, text=True, check=True)
    assert '"concept":"cat"' in answer.stdout


def test_the_realised_false_alarm_rate_lies_in_the_band_that_the_certificate_allows(
    new: list[dict[str, Any]], certificate: dict[str, Any]
) -> None:
    n, k = certificate["n"], certificate["k"]
    assert (n, k) == (90, 4)
    alarms = sum(result["is_ood"] for result in new)
    low, high = betabinom(len(new), k, n + 1 - k).ppf([0.0005, 0.9995])
    print(f"false alarms: {alarms} of {len(new)}; the 99.9 % band is {low:g} to {high:g}")
    assert low <= alarms <= high


def test_auroc_of_the_groups_against_the_rest(
    http: httpx.Client, photographs: Groups, new: list[dict[str, Any]]
) -> None:
    rest = score(http, photographs.outside)
    found = metrics([r["score"] for r in new], [r["score"] for r in rest])
    rejected = np.mean([r["is_ood"] for r in rest])
    print(f"AUROC {found.auroc:.4f}, FPR95 {found.fpr95:.4f}, rejected {rejected:.3f}")
    assert found.auroc >= 0.8


def test_the_sdk_says_the_same(
    server: Server, photographs: Groups, certificate: dict[str, Any], new: list[dict[str, Any]]
) -> None:
    with Client(server.url, require_verdict=True) as client:
        results = list(client.score("groups", photographs.new))
        assert [r.score for r in results] == pytest.approx([r["score"] for r in new], abs=1e-6)
        assert [r.is_ood for r in results] == [r["is_ood"] for r in new]
        client.put_detector("groups-sdk", photographs.names)
        calibrated = client.calibrate("groups-sdk", photographs.calibration)
        assert calibrated.threshold == pytest.approx(certificate["threshold"], abs=1e-6)


def mcm(*arguments: str | Path, cwd: Path, server: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcm.cli", *map(str, arguments)]
    environment = os.environ | {"MCM_SERVER": server} if server else dict(os.environ)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_the_command_line_says_the_same_here_and_through_the_server(
    server: Server, photographs: Groups, new: list[dict[str, Any]], tmp_path: Path
) -> None:
    mcm("detector", "export", "groups", "groups.json", cwd=tmp_path, server=server.url)
    mcm(
        "score",
        *photographs.new,
        "--detector",
        "groups",
        "--out",
        "remote.csv",
        cwd=tmp_path,
        server=server.url,
    )
    mcm("score", *photographs.new, "--detector-file", "groups.json", "--out", "local.csv", cwd=tmp_path)
    expected = [r["score"] for r in new]
    for file in ("remote.csv", "local.csv"):
        found = rows(tmp_path / file)
        assert [float(row["score"]) for row in found] == pytest.approx(expected, abs=1e-6)
        assert [row["is_ood"].lower() for row in found] == [str(r["is_ood"]).lower() for r in new]


def test_a_detector_file_moves_between_server_machine_and_back_with_its_certificate(
    http: httpx.Client, server: Server, certificate: dict[str, Any], tmp_path: Path
) -> None:
    mcm("detector", "export", "groups", "groups.json", cwd=tmp_path, server=server.url)
    mcm("detector", "import", "groups.json", "--name", "moved", cwd=tmp_path, server=server.url)
    moved = http.get("/v1/detectors/moved").json()
    assert moved["certificate"]["threshold"] == certificate["threshold"]
    assert moved["certificate"]["promise"] == certificate["promise"]
    assert moved["definition_hash"] == certificate["definition_hash"]
