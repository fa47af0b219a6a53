"""What breaks inside is told in our own words: no library's message, path or traceback in answers or logs."""

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.calls import RED, connected, create, files
from tests.pictures import encode, plain, scene, text_bomb_png, truncated
from tests.problems import MEMBERS, assert_problem, assert_problem_body
from tests.serve_faults import RAISING, TELLING, UNPREPARED, WARNING
from tests.server import COLOURS, Server, ended, running

FAULTY = (sys.executable, "-m", "tests.serve_faults")
SIGNS = ("SECRET", "/srv/", "forged line", "Traceback", 'File "', ".py", "site-packages")
CONCEPTS = {"concepts": ["red", "green"]}


@pytest.fixture(scope="module", params=["text", "json"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose inside fails on demand; no line of its log may hold a secret, and each is one event."""
    folder = tmp_path_factory.mktemp("faulty")
    with running(folder, FAULTY, log_format=request.param) as server:
        yield server
    assert not [line for line in server.lines for sign in (*SIGNS, str(folder)) if sign in line]
    events = server.lines[3:]  # after the banner
    assert len(events) > 10
    if request.param == "json":
        assert all(json.loads(line)["event"] for line in events)
    else:
        assert all(" [" in line and line.startswith("20") for line in events)


@pytest.fixture
def http(faulty: Server) -> Iterator[httpx.Client]:
    with connected(faulty.url) as http:
        yield http


def logged(server: Server, *words: str) -> bool:
    """Whether one line holds all the words; it may still be on its way here."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if any(all(word in line for word in words) for line in server.lines):
            return True
        time.sleep(0.01)
    return False


def assert_silent(response: httpx.Response) -> None:
    assert not any(sign in response.text for sign in SIGNS), response.text
    assert not any(sign in str(response.headers) for sign in SIGNS), response.headers


@pytest.mark.parametrize("colour", [RAISING, TELLING])
def test_an_encoder_that_fails_says_nothing_to_the_caller_and_its_class_to_the_log(
    faulty: Server, http: httpx.Client, colour: tuple[int, int, int]
) -> None:
    response = http.post("/v1/score", files=files(plain(colour), RED), data=CONCEPTS)
    assert_silent(response)
    bad, good = response.json()["results"]
    assert_problem_body(bad["error"])
    assert (bad["error"]["status"], good["concept"]) == (503, "red")
    assert logged(faulty, "EncoderError < ", ":encode_images" if colour == RAISING else "OSError")


def test_an_encoder_that_fails_on_a_text_says_nothing(faulty: Server, http: httpx.Client) -> None:
    response = http.post("/v1/embed", json={"texts": ["raising"]})
    assert_problem(response, 503, "encoder-failed")
    assert_silent(response)


@pytest.mark.parametrize(
    "data",
    [plain(UNPREPARED), truncated(encode(scene(), "JPEG")), text_bomb_png(), b"\x89PNG\r\n\x1a\n junk"],
)
def test_a_decoder_that_fails_says_nothing(http: httpx.Client, data: bytes) -> None:
    response = http.post("/v1/score", files=files(data), data=CONCEPTS)
    problem = assert_problem(response, 422, "broken-image")
    assert_silent(response)
    assert "Error" not in problem["detail"]
    assert "TEXT" not in problem["detail"]


def test_a_librarys_warning_is_not_logged(http: httpx.Client) -> None:
    assert_silent(http.post("/v1/score", files=files(plain(WARNING)), data=CONCEPTS))


def test_a_bug_is_a_500_without_details_and_its_place_is_logged(faulty: Server, http: httpx.Client) -> None:
    http.post("/v1/embed", json={"texts": ["a-bug"]})
    response = http.get("/v1/models")
    assert response.status_code == 500
    assert response.json().keys() == MEMBERS
    assert response.json()["type"] == "/problems/internal-error"
    assert_silent(response)
    request_id = response.headers["x-request-id"]
    assert logged(faulty, request_id, "unforeseen error", "ValidationError", "app.api.system:models:")


DAMAGES: dict[str, tuple[str, Callable[[httpx.Client], httpx.Response]]] = {
    "trigger": (
        "CREATE TRIGGER evil BEFORE INSERT ON detectors BEGIN "
        "SELECT RAISE(ABORT, 'SECRET of /srv/somebody/mcm.db'); END",
        lambda http: http.post("/v1/detectors", json={"name": "leak"} | CONCEPTS),
    ),
    "missing table": (
        "ALTER TABLE detectors RENAME TO SECRET",
        lambda http: http.get("/v1/detectors"),
    ),
    "damaged record": (
        'UPDATE detectors SET definition = \'{"SECRET": "/srv/"}\'',
        lambda http: http.get("/v1/detectors/victim"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_database_that_fails_says_nothing_to_the_caller_and_a_code_to_the_log(
    tmp_path: Path, damage: str
) -> None:
    statement, call = DAMAGES[damage]
    with running(tmp_path) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        create(http, "victim")
        database = sqlite3.connect(tmp_path / "mcm.db")
        with database:
            database.execute(statement)
        database.close()
        response = call(http)
        problem = assert_problem(response, 503, "store-unavailable")
        assert_silent(response)
    assert not any(word in problem["detail"] for word in ("sqlite", "table", "constraint", "ABORT"))
    log = "\n".join(server.lines)
    assert not any(sign in log for sign in (*SIGNS, str(tmp_path)))
    assert "StoreUnavailable < " in log


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b"junk"),
        ("multipart/form-data; boundary=b", b"--b\r\nno colon here\r\n\r\nred\r\n--b--"),
    ],
)
def test_a_parser_that_fails_is_told_in_our_words(http: httpx.Client, kind: str, body: bytes) -> None:
    response = http.post("/v1/score", content=body, headers={"Content-Type": kind})
    detail = assert_problem(response, 400, "unparsable-body")["detail"]
    assert "boundary" in detail
    assert not any(word in detail for word in ("index", "character", "Did not", "MultiPart"))


@pytest.mark.parametrize("scheme", ["nonsense", "postgresql+nonsense", "postgresql+psycopg"])
def test_a_password_in_the_database_url_is_not_printed_when_the_start_fails(
    tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://somebody:PASSWORD@127.0.0.1:1/mcm?connect_timeout=1"
    code, lines = ended(tmp_path, COLOURS, database_url=url)
    assert code == 1
    assert "PASSWORD" not in "\n".join(lines)
