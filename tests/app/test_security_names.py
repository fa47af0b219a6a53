"""File, concept and detector names are data everywhere: in answers, prompts, headers, paths and logs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.calls import RED, as_json, connected, create
from tests.problems import assert_problem
from tests.server import ROOT, Server, running

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{0.__class__} {name} {} %s %(x)s ${HOME} $(id) `id`",
    "../../x",
    "C:\\..\\x",
    "'; DROP TABLE detectors; --",
    "{{7*7}} #{7*7} <%= 7*7 %>",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
]
FORGED = "x\r\n2099-01-01T00:00:00Z [error] forged\nforged: line\u2028forged"
FORMATS = ["text", "json"]


@pytest.fixture(scope="module", params=FORMATS)
def logging(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that logs all it can; no line of its log may begin with what a caller sent."""
    with running(tmp_path_factory.mktemp("names"), log_format=request.param, log_level="debug") as server:
        yield server
    events = server.lines[3:]
    assert any("forged" in line for line in events), "nothing was tried"
    assert not [line for line in events if line.lstrip().startswith(("forged", "2099", "\u2028"))]
    if request.param == "json":
        assert all(isinstance(json.loads(line), dict) for line in events)
    else:
        assert all(line.startswith("20") and not line.startswith("2099") for line in events)
        assert not [line for line in events if "\u2028" in line or "\r" in line]


@pytest.mark.parametrize("name", NAMES)
def test_concepts_and_file_names_come_back_as_they_are_and_never_as_a_page(
    http: httpx.Client, name: str
) -> None:
    images = [as_json(RED)["images"][0] | {"name": name}]
    response = http.post("/v1/score", json={"images": images, "concepts": [name, "red"]})
    (result,) = response.json()["results"]
    assert result["name"] == name
    assert {match["concept"] for match in result["top"]} == {name, "red"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", NAMES)
def test_errors_that_repeat_a_name_are_no_page_either(http: httpx.Client, name: str) -> None:
    response = http.post("/v1/score", files=[(name, ("x.png", RED))], data={"concepts": ["red"]})
    assert_problem(response, 422, "invalid-request")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_prompts_hold_concepts_as_they_are(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    with running(tmp_path, test_texts=texts) as server, connected(server.url) as http:
        stored = create(http, "names", NAMES, templates=["a {} of %s"])
        found = http.get("/v1/detectors/names").json()["definition"]["concepts"]
    assert stored["definition"]["concepts"] == found == NAMES
    encoded = texts.read_text().splitlines()
    assert [f"a {name} of %s" for name in NAMES] == encoded[: len(NAMES)]


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "..%2f..%2fx", "%2e%2e%2fx", "a/../../x", "a%00", "A", "<script>", "a%0d%0aX-Evil:1"],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_detectors_name_leads_nowhere_else(
    http: httpx.Client, server: Server, method: str, name: str
) -> None:
    request = http.build_request(
        method, "/", json={"concepts": ["red", "green"]} if method == "PUT" else None
    )
    request.url = request.url.copy_with(raw_path=f"/v1/detectors/{name}".encode())
    response = http.send(request)
    assert response.status_code in (404, 405, 422)
    assert_problem(response, response.status_code, response.json()["type"].removeprefix("/problems/"))
    assert "x-evil" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/..%2fsettings.py",
        "/static/%2e%2e/settings.py",
        "/static/docs/../../main.py",
        "/static/docs/..%5c..%5cmain.py",
        "/static//etc/passwd",
        "/static/%00",
    ],
)
def test_static_files_end_at_their_folder(http: httpx.Client, path: str) -> None:
    request = http.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert_problem(http.send(request), 404, "not-found")


def test_a_break_in_a_name_makes_no_line_in_the_log(logging: Server) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in FORGED.encode())
    with connected(logging.url) as http:
        for path in (f"/{quoted}", f"/v1/detectors/{quoted}", f"/v1/models?x={quoted}"):
            request = http.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            http.send(request)
        http.post("/v1/score", files=[("images", (FORGED, RED))], data={"concepts": ["red", FORGED]})
        body = {"name": FORGED, "concepts": [FORGED]}
        assert_problem(http.post("/v1/detectors", json=body), 422, "invalid-request")
        images = [{"name": FORGED, "data": "bm8gaW1hZ2U="}]
        answer = http.post("/v1/score", json={"images": images, "concepts": ["red", "green"]})
        assert answer.json()["results"][0]["name"] == FORGED
        for header in ("User-Agent", "Referer", "X-Request-ID", "X-Forwarded-For"):
            assert http.get("/v1/models", headers={header: "x forged\tline"}).status_code == 200


def test_a_break_in_a_name_makes_no_header(http: httpx.Client) -> None:
    for name in ("x\r\nX-Evil: 1", "x%0d%0aX-Evil: 1"):
        response = http.post("/v1/detectors", json={"name": name, "concepts": ["red", "green"]})
        assert_problem(response, 422, "invalid-request")
        assert "x-evil" not in response.headers


def test_a_value_in_a_text_log_cannot_look_like_another_field(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http:
        http.get("/x status=200 forged=1")
        http.get("/' status=200 forged='1")
    (first, second) = [line for line in server.lines if "forged" in line]
    assert "path='/x status=200 forged=1'" in first
    assert "path=\"/' status=200 forged='1\"" in second


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_break_in_a_librarys_message_makes_no_line_in_the_log(log_format: str) -> None:
    program = (
        "import logging, sys; from app.logs import configure_logging; from app.settings import Settings; "
        "configure_logging(Settings()); logging.getLogger('library').error('cannot read %s', sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, FORGED],
        env=os.environ | {"MCM_LOG_FORMAT": log_format},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stderr.splitlines()  # which breaks at U+2028 too
    assert "cannot read x" in line
