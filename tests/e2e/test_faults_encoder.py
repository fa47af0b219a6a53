"""Faults of the encoder and of the engine, in a real process: who is guilty fails, all others are served."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.calls import RED, assert_serves, connected, files
from tests.e2e.faulty import COMMAND, MEMORY_FOR, Faults
from tests.fakes import POISON
from tests.pictures import plain
from tests.problems import assert_problem, assert_problem_body
from tests.scrapes import increase, scrape
from tests.serve_colours import HOLD, held
from tests.server import Server, running

BAD = plain(POISON)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    os.mkfifo(folder / "gate")
    return folder


@pytest.fixture(scope="module")
def shared_faults(folder: Path) -> Faults:
    return Faults(folder / "fault")


@pytest.fixture(scope="module")
def server(folder: Path, shared_faults: Faults) -> Iterator[Server]:
    with running(folder, COMMAND, test_fault=shared_faults.file, test_gate=folder / "gate") as server:
        yield server


@pytest.fixture
def faults(shared_faults: Faults) -> Iterator[Faults]:
    yield shared_faults
    shared_faults.set("")


@pytest.fixture
def http(server: Server, faults: Faults) -> Iterator[httpx.Client]:
    with connected(server.url) as http:
        yield http
        faults.set("")
        assert http.get("/readyz").status_code == 200
        assert scrape(http).by("mcm_admission_used_ratio", "places") == {}
        assert not any("secret" in line for line in server.lines)


def embed(http: httpx.Client, *images: bytes) -> httpx.Response:
    return http.post("/v1/embed", files=files(*images))


def in_one_batch(
    http: httpx.Client, faults: Faults, requests: Sequence[Sequence[bytes]], fault: str = ""
) -> list[httpx.Response]:
    """The answers to requests that wait together while the model is held, and so share a faulty batch."""
    images = sum(map(len, requests))
    with ThreadPoolExecutor() as crowd:
        plug = crowd.submit(embed, http, plain(HOLD))
        with held(faults.file.parent / "gate"):
            sent = [crowd.submit(embed, http, *images) for images in requests]
            while scrape(http).value("mcm_queue_length", queue="model") < images:
                pass
            faults.set(fault)
        assert plug.result().status_code == 200
        return [future.result() for future in sent]


# ---- the encoder


def test_an_encoder_that_raises_once_costs_nobody_anything(http: httpx.Client, faults: Faults) -> None:
    answers = in_one_batch(http, faults, [[RED, RED]] * 4, "raise once")
    assert [answer.status_code for answer in answers] == [200] * 4
    assert faults.file.read_text() == "", "it has raised"


def test_an_encoder_that_always_raises_is_503_until_it_is_well_again(
    http: httpx.Client, faults: Faults
) -> None:
    faults.set("raise")
    for _ in range(3):
        answer = embed(http, RED, RED)
        assert_problem(answer, 503, "encoder-failed")
        assert [r["error"]["type"] for r in answer.json()["results"]] == ["/problems/encoder-failed"] * 2
    assert http.get("/healthz").status_code == 200
    faults.set("")
    assert_serves(http)


def test_only_the_guilty_image_of_a_shared_batch_fails(http: httpx.Client, faults: Faults) -> None:
    before = scrape(http)
    answers = in_one_batch(http, faults, [[RED, RED], [RED, BAD, RED], [RED], [BAD]])
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503]
    mixed = answers[1].json()["results"]
    assert [result["embedding"] is None for result in mixed] == [False, True, False]
    assert_problem_body(mixed[1]["error"])
    assert mixed[1]["error"]["type"] == "/problems/encoder-failed"
    alone = embed(http, RED).json()["results"][0]["embedding"]
    assert all(
        result["embedding"] == alone
        for answer in answers[:3]
        for result in answer.json()["results"]
        if result["error"] is None
    )
    ended = increase(before, scrape(http), "mcm_images_total", "outcome")
    assert ended == {"embedded": 7, "failed": 2}  # with the one that held the model, and the one alone


@pytest.mark.parametrize("fault", ["more rows", "fewer rows"])
def test_a_wrong_number_of_rows_is_no_answer(http: httpx.Client, faults: Faults, fault: str) -> None:
    faults.set(fault)
    assert_problem(embed(http, RED, RED, RED), 503, "encoder-failed")
    faults.set("")
    assert_serves(http)


def test_a_row_that_is_no_number_fails_alone(http: httpx.Client, faults: Faults) -> None:
    (answer,) = in_one_batch(http, faults, [[RED] * 8], "nan")
    assert answer.status_code == 200
    assert [result["error"] is not None for result in answer.json()["results"]].count(True) == 1
    assert "NaN" not in answer.text


@pytest.mark.parametrize("fault", ["memory", "device memory"])
def test_a_batch_that_memory_does_not_hold_is_halved_and_answered(
    http: httpx.Client, faults: Faults, fault: str
) -> None:
    (answer,) = in_one_batch(http, faults, [[RED] * 8 * MEMORY_FOR], fault)
    assert answer.status_code == 200
    assert [result["error"] for result in answer.json()["results"]] == [None] * 8 * MEMORY_FOR


# ---- the engine


def test_a_bug_in_the_loop_is_503_and_the_loop_goes_on(http: httpx.Client, faults: Faults) -> None:
    faults.set("panic")
    for _ in range(3):
        assert_problem(embed(http, RED, RED), 503, "engine-failed")
    faults.set("")
    assert_serves(http)


def test_when_the_engines_threads_die_it_is_not_ready_and_nobody_waits(tmp_path: Path) -> None:
    faults = Faults(tmp_path / "fault")
    with (
        running(tmp_path, COMMAND, test_fault=faults.file, decode_threads=1) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=20) as http,
    ):
        faults.set("die")
        assert_problem(embed(http, RED, RED), 503, "engine-failed")
        with ThreadPoolExecutor() as crowd:
            answers = list(crowd.map(lambda _: embed(http, RED), range(6)))
        for answer in answers:
            assert_problem(answer, 503, "engine-failed")
        assert http.get("/readyz").status_code == 503
        assert http.get("/healthz").status_code == 200
        assert scrape(http).by("mcm_admission_used_ratio", "places") == {}
        assert server.stop() == 0
