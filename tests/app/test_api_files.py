"""The portable detector over HTTP: export, import, and what is refused."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.calls import RED, calibrate, connected, create, files
from tests.problems import assert_problem
from tests.server import running

FILE = {"schema_version", "definition", "encoder", "dim", "matrix", "calibration_scores", "certificate"}


def exported(http: httpx.Client, name: str) -> Any:
    response = http.get(f"/v1/detectors/{name}/file")
    assert response.status_code == 200
    return response.json()


def put(http: httpx.Client, name: str, file: Any, **headers: str) -> httpx.Response:
    return http.put(f"/v1/detectors/{name}/file", json=file, headers=headers)


def matrix(file: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(file["matrix"]), "<f4").reshape(-1, file["dim"])


def with_matrix(file: Any, rows: np.ndarray) -> Any:
    return file | {"matrix": base64.b64encode(rows.astype("<f4").tobytes()).decode()}


def test_an_exported_file_holds_the_whole_detector(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    certificate = calibrate(http, name)
    response = http.get(f"/v1/detectors/{name}/file")
    assert response.headers["etag"] == f'"{certificate["revision"]}"'
    file = response.json()
    assert file.keys() == FILE
    assert file["schema_version"] == 1
    assert file["definition"] == detector["definition"]
    assert file["encoder"] == {"name": "colours", "fingerprint": "colours-1"}
    assert file["dim"] == 16
    assert matrix(file).shape == (3, 16)
    assert len(file["calibration_scores"]) == 40
    assert file["certificate"] == {key: certificate[key] for key in file["certificate"]}


def test_a_round_trip_keeps_definition_scores_and_certificate(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", {"name": "sea", "prompts": ["blue water"]}], temperature=0.5)
    calibrate(http, name)
    file = exported(http, name)
    response = put(http, f"{name}-copy", file)
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/detectors/{name}-copy"
    assert response.json()["warnings"] == []
    assert response.json()["certificate"] == file["certificate"]
    assert exported(http, f"{name}-copy") == file
    original, copy = (
        http.post(f"/v1/detectors/{n}/score", files=files(RED)).json() for n in (name, f"{name}-copy")
    )
    assert copy["results"] == original["results"]
    assert copy["threshold"] == original["threshold"]


def test_importing_the_same_file_again_changes_nothing(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    before = http.get(f"/v1/detectors/{name}").json()
    response = put(http, name, exported(http, name))
    assert response.status_code == 200
    assert response.json() == before


def test_importing_over_another_definition_takes_the_files_calibration(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    file = exported(http, name)
    create(http, f"{name}-2", ["white", "black"])
    calibrate(http, f"{name}-2", 30)
    response = put(http, f"{name}-2", file)
    assert response.status_code == 200
    assert response.json()["certificate"] == file["certificate"]


@pytest.mark.parametrize("tag", ['"1"', "*"])
def test_importing_honours_if_match(http: httpx.Client, name: str, tag: str) -> None:
    create(http, name)
    file = exported(http, name)
    assert_problem(put(http, f"{name}-new", file, **{"If-Match": tag}), 412, "revision-mismatch")
    assert_problem(http.get(f"/v1/detectors/{name}-new"), 404, "detector-not-found")


def test_another_encoders_file_is_imported_without_calibration_and_says_so(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    calibrate(http, name)
    file = exported(http, name)
    file["encoder"] = {"name": "other", "fingerprint": "other-1"}
    file["certificate"] = None
    response = put(http, f"{name}-copy", file)
    assert response.status_code == 201
    detector = response.json()
    assert [warning["code"] for warning in detector["warnings"]] == ["imported-without-calibration"]
    assert detector["certificate"] is None
    assert detector["model"]["fingerprint"] == "colours-1"
    assert http.get(f"/v1/detectors/{name}-copy/calibration").json()["scores"] == []


def test_a_forged_matrix_is_refused(http: httpx.Client, name: str) -> None:
    create(http, name)
    file = exported(http, name)
    forged = matrix(file)[::-1].copy()
    problem = assert_problem(
        put(http, f"{name}-copy", with_matrix(file, forged)), 422, "invalid-detector-file"
    )
    assert "red" in problem["detail"] or "blue" in problem["detail"]
    assert_problem(http.get(f"/v1/detectors/{name}-copy"), 404, "detector-not-found")


def test_last_digits_of_the_matrix_may_differ_and_the_encoders_own_are_kept(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    file = exported(http, name)
    near = with_matrix(file, matrix(file) + np.float32(5e-6))
    assert put(http, f"{name}-copy", near).status_code == 201
    assert exported(http, f"{name}-copy")["matrix"] == file["matrix"]


def change(path: str, value: Any) -> Callable[[Any], None]:
    def apply(file: Any) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            file = file[parent]
        file[last] = value

    return apply


@pytest.mark.parametrize(
    "forge",
    [
        change("matrix", ""),
        change("matrix", "not base64 at all!"),
        change("matrix", "AAAA"),
        change("dim", 8),
        change("dim", 10**18),
        change("calibration_scores", []),
        change("calibration_scores", [0.5] * 40),
        change("certificate.threshold", 0.0),
        change("certificate.n", 1000),
        change("certificate.k", 1),
        change("certificate.method", "pac"),
        change("certificate.method", "paper"),
        change("certificate.false_alarm_rate", 0.01),
        change("certificate.false_alarm_rate", None),
        change("certificate.rate_interval", [0, 0.01]),
        change("certificate.definition_hash", "0" * 64),
        change("definition.temperature", 2.0),
        change("definition.concepts", ["red", "green"]),
        change("definition.concepts", ["red", "green", " "]),
        change("encoder.fingerprint", "colours-2"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    http: httpx.Client, name: str, forge: Callable[[Any], None]
) -> None:
    create(http, name)
    calibrate(http, name)
    file = exported(http, name)
    forge(file)
    assert_problem(put(http, f"{name}-copy", file), 422, "invalid-detector-file")
    assert_problem(http.get(f"/v1/detectors/{name}-copy"), 404, "detector-not-found")


def test_the_words_of_a_promise_are_always_the_services_own(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    file = exported(http, name)
    promise = file["certificate"]["promise"]
    file["certificate"]["promise"] = "Never wrong."
    assert put(http, f"{name}-copy", file).json()["certificate"]["promise"] == promise


@pytest.mark.parametrize(
    "forge",
    [
        change("schema_version", 2),
        change("dim", 0),
        change("dim", "16"),
        change("matrix", None),
        change("encoder", "colours"),
        change("definition.score", "GL-MCM"),
        change("definition.local_weight", -1),
        change("calibration_scores", [None]),
        change("certificate.created_at", "yesterday"),
        change("certificate.n", 40.5),
        change("surprise", 1),
    ],
)
def test_a_file_of_another_shape_is_refused(
    http: httpx.Client, name: str, forge: Callable[[Any], None]
) -> None:
    create(http, name)
    calibrate(http, name)
    file = exported(http, name)
    forge(file)
    assert_problem(put(http, f"{name}-copy", file), 422, "invalid-request")


def test_a_file_with_more_scores_than_are_kept_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, max_calibration_scores=50) as server, connected(server.url) as http:
        create(http, "full")
        calibrate(http, "full")
        file = http.get("/v1/detectors/full/file").json()
        file["calibration_scores"] = sorted(file["calibration_scores"] * 10)[:60]
        file["certificate"] = None
        assert_problem(http.put("/v1/detectors/more/file", json=file), 413, "too-large")
        assert http.get("/v1/detectors/more").status_code == 404


def test_a_file_without_a_calibration_takes_the_old_one_out_of_force_and_says_so(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    bare = http.get(f"/v1/detectors/{name}/file").json()
    calibrate(http, name)
    imported = http.put(f"/v1/detectors/{name}/file", json=bare).json()
    assert imported["certificate"] is None
    assert [warning["code"] for warning in imported["warnings"]] == ["calibration-dropped"]
    assert http.get(f"/v1/detectors/{name}/calibration").json()["scores"] == []
