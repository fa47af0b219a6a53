"""Every limit of API.md, each with a small value; and time, overload and slow bodies."""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.calls import RED, as_json, connected, create, files
from tests.pictures import encode, just_over, noise, plain
from tests.problems import assert_problem, assert_problem_body
from tests.serve_colours import HOLD, held
from tests.server import Server, running

LIMITS: dict[str, Any] = {
    "max_image_bytes": 2000,
    "max_image_pixels": 10_000,
    "max_request_bytes": 60_000,
    "max_json_bytes": 20_000,
    "max_images": 4,
    "max_embeddings": 3,
    "max_concepts": 6,
    "max_templates": 2,
    "max_prompts": 8,
    "max_one_shot_prompts": 7,
    "max_text_chars": 50,
    "max_detectors": 3,
    "max_calibration_scores": 30,
    "body_timeout": 0.3,
}
WORDS = ["red", "green", "blue", "white", "black", "yellow", "owl"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with small limits."""
    with running(tmp_path_factory.mktemp("small"), **LIMITS) as server:
        yield server


@pytest.fixture
def http(small: Server) -> Iterator[httpx.Client]:
    with connected(small.url) as http:
        yield http
        for detector in http.get("/v1/detectors").json()["detectors"]:
            http.delete(f"/v1/detectors/{detector['name']}")


def one_shot(http: httpx.Client, *contents: bytes, **options: Any) -> httpx.Response:
    return http.post("/v1/score", files=files(*contents), data={"concepts": ["red", "green"], **options})


@pytest.mark.parametrize(
    "large", [encode(noise((40, 40)), "PNG"), just_over(10_000)], ids=["max_image_bytes", "max_image_pixels"]
)
def test_an_image_over_a_limit_is_refused_in_its_place(http: httpx.Client, large: bytes) -> None:
    response = one_shot(http, RED, large, RED)
    assert response.status_code == 200
    first, bad, last = response.json()["results"]
    assert first["concept"] == last["concept"] == "red"
    assert_problem_body(bad["error"])
    assert (bad["error"]["status"], bad["error"]["type"]) == (413, "/problems/image-too-large")
    assert re.search(r"2,000|10,000", bad["error"]["detail"])
    assert_problem(one_shot(http, large), 413, "image-too-large")
    assert_problem(
        http.post("/v1/score", json=as_json(large) | {"concepts": ["a", "b"]}), 413, "image-too-large"
    )


def test_max_request_bytes_bounds_a_body_with_images(http: httpx.Client) -> None:
    assert_problem(one_shot(http, bytes(60_000)), 413, "too-large")
    body = as_json(bytes(60_000)) | {"concepts": ["red", "green"]}
    assert_problem(http.post("/v1/score", json=body), 413, "too-large")
    assert one_shot(http, bytes(50_000), RED).status_code == 200


def test_max_json_bytes_bounds_a_json_body_without_images(http: httpx.Client) -> None:
    padding = " " * 20_000
    for path in ("/v1/detectors", "/v1/concepts/check", "/v1/score", "/v1/embed", "/v1/detectors/a/score"):
        content = '{"concepts": ["red", "green"]' + padding + "}"
        response = http.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (413, 422, 404), response.text
        if path in ("/v1/detectors", "/v1/concepts/check"):
            assert_problem(response, 413, "too-large")
    content = '{"texts": ["red"]' + padding + "}"
    response = http.post("/v1/embed", content=content, headers={"Content-Type": "application/json"})
    assert_problem(response, 413, "too-large")


def test_max_json_bytes_bounds_a_text_of_a_form(http: httpx.Client) -> None:
    assert_problem(one_shot(http, RED, templates="x" * 30_000), 413, "too-large")


@pytest.mark.parametrize("count", [5, 6, 50])
def test_max_images(http: httpx.Client, count: int) -> None:
    assert "4" in assert_problem(one_shot(http, *[RED] * count), 413, "too-large")["detail"]
    body = as_json(*[RED] * count) | {"concepts": ["red", "green"]}
    assert "4" in assert_problem(http.post("/v1/score", json=body), 413, "too-large")["detail"]
    assert one_shot(http, *[RED] * 4).status_code == 200


def test_max_embeddings(http: httpx.Client) -> None:
    create(http, "a")
    for count, status in ((3, 200), (4, 413)):
        body = {"embeddings": [[1.0] * 16] * count, "fingerprint": "colours-1"}
        assert http.post("/v1/detectors/a/score", json=body).status_code == status


def test_max_calibration_scores(http: httpx.Client) -> None:
    definition_hash = create(http, "a")["definition_hash"]
    for count, status in ((30, 200), (31, 413)):
        body = {"scores": [0.5] * count, "definition_hash": definition_hash}
        response = http.post("/v1/detectors/a/calibrate", json=body)
        assert response.status_code == status
    assert "30" in assert_problem(response, 413, "too-large")["detail"]


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        ({"concepts": WORDS}, "6"),
        ({"concepts": WORDS[:2], "templates": ["a {}", "b {}", "c {}"]}, "2"),
        ({"concepts": WORDS[:5], "templates": ["a {}", "b {}"]}, "prompts"),
        ({"concepts": ["red", {"name": "b", "prompts": ["x"] * 8}]}, "prompts"),
        ({"concepts": ["red", "x" * 51]}, "50"),
        ({"concepts": ["red", {"name": "b", "prompts": ["x" * 51]}]}, "50"),
        ({"concepts": ["red", "green"], "templates": ["x" * 50 + "{}"]}, "50"),
    ],
    ids=["concepts", "templates", "prompts", "own prompts", "concept", "prompt", "template"],
)
def test_a_definition_over_a_limit_is_refused_on_every_route(
    http: httpx.Client, definition: dict[str, Any], told: str
) -> None:
    responses = [
        http.post("/v1/detectors", json=definition | {"name": "a"}),
        http.put("/v1/detectors/a", json=definition),
        http.post("/v1/score", json=as_json(RED) | definition),
        http.post("/v1/concepts/check", json=definition),
    ]
    for response in responses:
        assert told in assert_problem(response, 422, "invalid-definition")["detail"]
    assert_problem(http.get("/v1/detectors/a"), 404, "detector-not-found")


def test_a_one_shot_request_takes_fewer_prompts_than_a_detector(http: httpx.Client) -> None:
    eight = {"concepts": WORDS[:4], "templates": ["a {}", "b {}"]}
    assert http.put("/v1/detectors/a", json=eight).status_code == 201
    assert_problem(http.post("/v1/score", json=as_json(RED) | eight), 422, "invalid-definition")
    assert_problem(http.post("/v1/concepts/check", json=eight), 422, "invalid-definition")


def test_texts_to_embed_have_the_limits_of_one_shot_prompts(http: httpx.Client) -> None:
    assert http.post("/v1/embed", json={"texts": WORDS}).status_code == 200
    assert http.post("/v1/embed", json={"texts": [*WORDS, "more"]}).status_code == 422
    assert http.post("/v1/embed", json={"texts": ["x" * 51]}).status_code == 422


def test_max_detectors(http: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        create(http, name)
    body = {"concepts": ["red", "green"]}
    assert_problem(http.post("/v1/detectors", json=body | {"name": "d"}), 409, "too-many-detectors")
    assert_problem(http.put("/v1/detectors/d", json=body), 409, "too-many-detectors")
    file = http.get("/v1/detectors/a/file").json()
    assert_problem(http.put("/v1/detectors/d/file", json=file), 409, "too-many-detectors")
    assert http.put("/v1/detectors/a", json=body).status_code == 200
    assert http.delete("/v1/detectors/b").status_code == 204
    assert http.put("/v1/detectors/d", json=body).status_code == 201


# ---- time


def test_a_body_that_does_not_arrive_in_time_is_408_and_the_connection_ends(
    http: httpx.Client, small: Server
) -> None:
    host, _, port = small.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        received = b""
        while data := slow.recv(4096):  # until the service closes the connection
            received += data
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/slow-body" in received


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[Server]:
    """A service that can be held, with room for few."""
    settings: dict[str, Any] = {"max_queued_images": 6, "max_queued_bytes": 200_000, "max_queued_prompts": 12}
    with running(
        tmp_path_factory.mktemp("busy"), **settings, request_timeout=20, test_gate=gate, max_batch=4
    ) as server:
        yield server


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def caller(busy: Server) -> Iterator[httpx.Client]:
    with connected(busy.url) as http:
        yield http


def test_a_request_over_its_callers_time_is_504_and_its_work_is_dropped(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    holding = crowd.submit(one_shot, caller, plain(HOLD))
    with held(gate):
        late = caller.post("/v1/embed", files=files(plain("navy")), headers={"X-Request-Timeout": "0.2"})
        assert "0.2 seconds" in assert_problem(late, 504, "deadline-exceeded")["detail"]
    assert holding.result().status_code == 200


def test_a_callers_time_is_capped_by_the_services(tmp_path: Path, gate: Path) -> None:
    with (
        running(tmp_path, request_timeout=0.5, test_gate=gate) as server,
        connected(server.url) as http,
        ThreadPoolExecutor() as crowd,
    ):
        headers = {"X-Request-Timeout": "1000"}
        late = crowd.submit(http.post, "/v1/embed", files=files(plain(HOLD)), headers=headers)
        with held(gate):
            assert "0.5 seconds" in assert_problem(late.result(), 504, "deadline-exceeded")["detail"]


def test_images_beyond_the_admission_are_429_at_once_with_retry_after(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    holding = crowd.submit(one_shot, caller, plain(HOLD), *[RED] * 4)
    with held(gate):
        response = one_shot(caller, RED, RED)
        assert_problem(response, 429, "overloaded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert caller.get("/healthz").status_code == caller.get("/readyz").status_code == 200
    assert len(holding.result().json()["results"]) == 5


def test_bytes_beyond_the_admission_are_429_from_the_head_of_the_request(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    holding = crowd.submit(one_shot, caller, plain(HOLD), bytes(150_000))
    with held(gate):
        assert_problem(one_shot(caller, bytes(100_000)), 429, "overloaded")
    assert holding.result().status_code == 200


def test_prompts_beyond_the_admission_are_429(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    holding = crowd.submit(
        caller.post, "/v1/embed", json={"texts": ["HOLD", *(f"text {i}" for i in range(9))]}
    )
    with held(gate):
        body = {"texts": [f"other {i}" for i in range(5)]}
        assert_problem(caller.post("/v1/embed", json=body), 429, "overloaded")
    assert holding.result().status_code == 200


@pytest.mark.parametrize("what", ["images", "bytes", "prompts"])
def test_what_is_larger_than_the_whole_admission_is_413(caller: httpx.Client, what: str) -> None:
    response = {
        "images": lambda: one_shot(caller, *[RED] * 7),
        "bytes": lambda: one_shot(caller, bytes(250_000)),
        "prompts": lambda: caller.post("/v1/embed", json={"texts": [f"new {i}" for i in range(13)]}),
    }[what]()
    assert what in assert_problem(response, 413, "larger-than-admission")["detail"]


def test_more_images_than_a_batch_are_split(caller: httpx.Client) -> None:
    answer = one_shot(caller, *[plain(colour) for colour in ("red", "lime", "red", "lime", "red", "lime")])
    assert [result["concept"] for result in answer.json()["results"]] == ["red", "green"] * 3


def test_who_leaves_frees_the_places(caller: httpx.Client, busy: Server, gate: Path) -> None:
    request = caller.build_request("POST", "/v1/embed", files=files(plain(HOLD), *[RED] * 5))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw)
    host, _, port = busy.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as leaving:
        leaving.sendall(b"POST /v1/embed HTTP/1.1\r\n" + head + b"\r\n" + request.read())
        with held(gate):
            assert_problem(one_shot(caller, RED), 429, "overloaded")
            leaving.close()
            hurry = {"X-Request-Timeout": "0.1"}  # admitted, it can but wait: the forward is held
            while caller.post("/v1/embed", files=files(RED), headers=hurry).status_code != 504:
                pass


def test_a_create_that_is_refused_for_its_prompts_stores_nothing(tmp_path: Path) -> None:
    with running(tmp_path, max_queued_prompts=2) as server, connected(server.url) as http:
        for text in ("a photo of a red", "a photo of a green", "a photo of a blue"):
            assert http.post("/v1/embed", json={"texts": [text]}).status_code == 200  # known from here on
        body = {"name": "a", "concepts": ["red", "green", "blue"]}
        assert_problem(http.post("/v1/detectors", json=body), 413, "larger-than-admission")
        assert http.get("/v1/detectors/a").status_code == 404
