"""What the service tells Prometheus, and callers by Server-Timing, of its work."""

import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import mcm
from app.metrics import MAX_DETECTORS, Metrics
from tests.calls import RED, calibrate, connected, create, files
from tests.fakes import POISON
from tests.pictures import plain
from tests.problems import assert_problem
from tests.scrapes import Scrape, increase, parse, scrape
from tests.serve_colours import HOLD, held
from tests.server import Server, running

PLACES = 6
CONCEPTS = {"concepts": ["red", "green"]}
STEPS = ["queue", "decode", "forward", "score"]


def images_counted(before: Scrape, after: Scrape) -> dict[str, float]:
    return increase(before, after, "mcm_images_total", "outcome")


# ---- images by outcome


def test_good_images_are_counted_by_what_they_were_for_and_bad_ones_apart(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    before = scrape(http)
    http.post(f"/v1/detectors/{name}/score", files=files(RED, b"no image", RED))
    http.post("/v1/score", files=files(RED), data=CONCEPTS)
    http.post("/v1/embed", files=files(*[RED] * 4, b"no image"))
    http.post(f"/v1/detectors/{name}/calibrate", files=files(*[RED] * 20))
    assert images_counted(before, scrape(http)) == {"scored": 3, "embedded": 4, "calibrated": 20, "bad": 2}


def test_an_image_scored_with_many_detectors_is_counted_once(http: httpx.Client, name: str) -> None:
    create(http, name)
    before = scrape(http)
    http.post("/v1/score", files=files(RED, RED), data={"detectors": [name] * 5})
    assert images_counted(before, scrape(http)) == {"scored": 2}


def test_bad_images_are_bad_whatever_status_the_answer_has(http: httpx.Client) -> None:
    before = scrape(http)
    too_large = plain("red", size=(8000, 8000))
    for images, status in ([b"no image"] * 2, 415), ([too_large], 413), ([RED[:45]], 422):
        assert http.post("/v1/embed", files=files(*images)).status_code == status
    assert http.post("/v1/embed", json={"images": [{"data": "no base64!"}]}).status_code == 422
    assert images_counted(before, scrape(http)) == {"bad": 5}


def test_an_image_that_the_encoder_fails_on_is_failed_and_its_neighbours_are_not(http: httpx.Client) -> None:
    before = scrape(http)
    http.post("/v1/embed", files=files(RED, plain(POISON), RED))
    assert images_counted(before, scrape(http)) == {"embedded": 2, "failed": 1}


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_images_of_a_request_that_cannot_be_served_are_not_worked_on_and_not_counted(
    http: httpx.Client, name: str, status: int
) -> None:
    create(http, name)
    before = scrape(http)
    response = {
        400: lambda: http.post("/v1/embed", content=b"{", headers={"Content-Type": "application/json"}),
        404: lambda: http.post("/v1/detectors/nowhere/score", files=files(RED)),
        409: lambda: http.post(
            f"/v1/detectors/{name}/score", files=files(RED), data={"require_verdict": "true"}
        ),
        422: lambda: http.post("/v1/score", files=files(RED), data={"concepts": ["red"]}),
    }[status]()
    assert response.status_code == status
    assert images_counted(before, scrape(http)) == {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service of these tests' own: another's would have seen more detectors than are told apart."""
    with running(tmp_path_factory.mktemp("metrics")) as server:
        yield server


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[httpx.Client]:
    with connected(server.url) as http:
        yield http


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[Server]:
    """A service that can be held, with few places."""
    folder = tmp_path_factory.mktemp("busy")
    with running(folder, max_queued_images=PLACES, max_batch=1, test_gate=gate) as server:
        yield server


@pytest.fixture
def caller(busy: Server) -> Iterator[httpx.Client]:
    with connected(busy.url) as http:
        yield http


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def test_images_that_find_no_place_are_refused(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    before = scrape(caller)
    holding = crowd.submit(caller.post, "/v1/embed", files=files(plain(HOLD), *[RED] * 3))
    with held(gate):
        response = caller.post("/v1/embed", files=files(*[RED] * 3))
        assert_problem(response, 429, "overloaded")
        assert images_counted(before, scrape(caller)) == {"refused": 3}
    assert holding.result().status_code == 200
    assert images_counted(before, scrape(caller)) == {"refused": 3, "embedded": 4}


def test_images_that_will_never_find_places_are_refused(caller: httpx.Client) -> None:
    before = scrape(caller)
    response = caller.post("/v1/embed", files=files(*[RED] * (PLACES + 1)))
    assert_problem(response, 413, "larger-than-admission")
    assert images_counted(before, scrape(caller)) == {"refused": PLACES + 1}


def test_images_whose_time_is_up_are_timed_out(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    before = scrape(caller)
    holding = crowd.submit(caller.post, "/v1/embed", files=files(plain(HOLD)))
    with held(gate):
        hurry = {"X-Request-Timeout": "0.1"}
        response = caller.post("/v1/embed", files=files(RED, RED), headers=hurry)
        assert_problem(response, 504, "deadline-exceeded")
    assert holding.result().status_code == 200
    assert images_counted(before, scrape(caller)) == {"timed_out": 2, "embedded": 1}


def test_images_of_a_caller_who_leaves_are_dropped_and_nothing_is_5xx(
    caller: httpx.Client, busy: Server, gate: Path
) -> None:
    before = scrape(caller)
    request = caller.build_request("POST", "/v1/embed", files=files(plain(HOLD), RED, RED))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw)
    host, _, port = busy.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as leaving:
        leaving.sendall(b"POST /v1/embed HTTP/1.1\r\n" + head + b"\r\n" + request.read())
        with held(gate):
            leaving.close()
            while not (requests := requests_counted(before, scrape(caller))):
                pass
    assert requests == {"499": 1}
    assert images_counted(before, scrape(caller)) == {"dropped": 3}


def requests_counted(before: Scrape, after: Scrape) -> dict[str, float]:
    """Requests by status, those to /metrics apart."""

    def others(scraped: Scrape) -> Scrape:
        return Scrape([s for s in scraped.samples if s.labels.get("route") != "/metrics"])

    return increase(others(before), others(after), "mcm_requests_total", "status")


# ---- the engine


def test_waiting_work_and_the_heartbeat_are_told_while_the_model_is_busy(
    caller: httpx.Client, crowd: ThreadPoolExecutor, gate: Path
) -> None:
    holding = crowd.submit(caller.post, "/v1/embed", files=files(plain(HOLD)))
    with held(gate):
        waiting = crowd.submit(caller.post, "/v1/embed", files=files(RED, RED))
        texts = crowd.submit(caller.post, "/v1/embed", json={"texts": ["one", "two", "three"]})
        wanted = {"model": 2, "prompts": 3}
        while (now := scrape(caller)).by("mcm_queue_length", "queue") != wanted:
            pass
        assert now.value("mcm_engine_heartbeat_age_seconds") > 0
        assert now.value("mcm_admission_used_ratio", places="images") == 3 / PLACES
    assert holding.result().status_code == waiting.result().status_code == texts.result().status_code == 200
    idle = scrape(caller)
    assert idle.by("mcm_queue_length", "queue") == {}
    assert idle.by("mcm_admission_used_ratio", "places") == {}
    assert idle.value("mcm_engine_heartbeat_age_seconds") == 0


def test_every_image_is_in_the_histograms_of_the_steps_that_it_reached(http: httpx.Client, name: str) -> None:
    create(http, name)
    before = scrape(http)
    http.post(f"/v1/detectors/{name}/score", files=files(*[RED] * 5, b"no image"))
    after = scrape(http)

    def rise(metric: str, **labels: str) -> float:
        return after.value(metric, **labels) - before.value(metric, **labels)

    assert rise("mcm_decode_seconds_count") == 6
    assert rise("mcm_queue_seconds_count", kind="images") == 5
    assert rise("mcm_batch_size_sum", kind="images") == 5
    assert rise("mcm_batch_size_count", kind="images") == rise("mcm_forward_seconds_count", kind="images") > 0
    assert rise("mcm_score_seconds_count") == 1
    assert rise("mcm_request_seconds_count", route="/v1/detectors/{name}/score") == 1


def test_histograms_add_up(http: httpx.Client) -> None:
    http.post("/v1/score", files=files(RED, RED), data={"concepts": ["yellow", "blue"]})
    found = scrape(http)
    for metric in ("decode_seconds", "queue_seconds", "forward_seconds", "batch_size", "score_seconds"):
        buckets = [s for s in found.samples if s.name == f"mcm_{metric}_bucket"]
        assert buckets
        for kind in {s.labels.get("kind") for s in buckets}:
            counts = [s.value for s in buckets if s.labels.get("kind") == kind]
            assert counts == sorted(counts)
            labels = {"kind": kind} if kind else {}
            assert counts[-1] == found.value(f"mcm_{metric}_count", **labels)


def test_what_runs_here_is_told(http: httpx.Client) -> None:
    model = http.get("/v1/models").json()["models"][0]
    found = scrape(http)
    [build] = [s for s in found.samples if s.name == "mcm_build_info"]
    assert build.labels == {
        "version": mcm.__version__,
        "encoder": model["name"],
        "fingerprint": model["fingerprint"],
        "device": model["device"],
        "dtype": model["dtype"],
    }
    assert found.value("mcm_ready") == 1


def test_before_the_start_is_done_the_service_is_not_ready() -> None:
    found = parse(Metrics().text().decode())
    assert [s.value for s in found.samples if s.name == "mcm_ready"] == [0]


# ---- caches and store


def test_prompts_known_from_before_are_hits_and_new_ones_misses(http: httpx.Client) -> None:
    texts = [f"a text of this test only, number {i}" for i in range(5)]
    http.post("/v1/embed", json={"texts": texts[:3]})
    before = scrape(http)
    http.post("/v1/embed", json={"texts": texts})
    after = scrape(http)
    assert increase(before, after, "mcm_cache_hits_total", "cache") == {"text": 3}
    assert increase(before, after, "mcm_cache_misses_total", "cache") == {"text": 2}
    assert increase(before, after, "mcm_cache_bytes", "cache")["text"] > 0


def test_a_detector_is_a_miss_once_it_was_changed_elsewhere_and_else_a_hit(tmp_path: Path) -> None:
    with (
        running(tmp_path) as server,
        running(tmp_path) as other,
        connected(server.url) as http,
        connected(other.url) as elsewhere,
    ):
        create(http, "a")
        before = scrape(http)
        http.post("/v1/detectors/a/score", files=files(RED))
        elsewhere.put("/v1/detectors/a/threshold", json={"threshold": 0.1})
        for _ in range(2):
            http.post("/v1/detectors/a/score", files=files(RED))
        after = scrape(http)
        assert increase(before, after, "mcm_cache_hits_total", "cache") == {"detector": 2}
        assert increase(before, after, "mcm_cache_misses_total", "cache") == {"detector": 1}


def test_a_store_that_cannot_be_asked_is_counted_also_while_scoring_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http:
        create(http, "a")
        assert scrape(http).value("mcm_store_failures_total") == 0
        with sqlite3.connect(tmp_path / "mcm.db") as connection:
            connection.execute("ALTER TABLE detectors RENAME TO elsewhere")
        connection.close()
        assert http.post("/v1/detectors/a/score", files=files(RED)).status_code == 200
        assert http.get("/v1/detectors/a").status_code == 503
        assert scrape(http).value("mcm_store_failures_total") == 2


# ---- verdicts


def verdicts(found: Scrape, detector: str) -> dict[str, float]:
    mine = [s for s in found.samples if s.labels.get("detector") == detector]
    return Scrape(mine).by("mcm_verdicts_total", "verdict")


def test_verdicts_are_counted_by_detector(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"])
    http.post(f"/v1/detectors/{name}/score", files=files(RED, RED, b"no image"))
    calibrate(http, name)
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0})
    http.post(f"/v1/detectors/{name}/score", files=files(RED, RED, RED))
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 1})
    http.post("/v1/score", files=files(RED), data={"detectors": [name]})
    assert verdicts(scrape(http), name) == {"none": 2, "in_distribution": 3, "ood": 1}


def test_one_shot_verdicts_go_by_a_name_that_no_detector_has(http: httpx.Client) -> None:
    before = scrape(http).value("mcm_verdicts_total", detector="_one_shot", verdict="none")
    http.post("/v1/score", files=files(RED, RED), data=CONCEPTS)
    assert verdicts(scrape(http), "_one_shot") == {"none": before + 2}
    assert http.get("/v1/detectors/_one_shot").status_code == 422


def test_the_verdicts_of_a_deleted_detector_are_forgotten(http: httpx.Client, name: str) -> None:
    create(http, name)
    http.post(f"/v1/detectors/{name}/score", files=files(RED))
    assert verdicts(scrape(http), name) == {"none": 1}
    http.delete(f"/v1/detectors/{name}")
    assert name not in http.get("/metrics").text
    create(http, name)
    http.post(f"/v1/detectors/{name}/score", files=files(RED))
    assert verdicts(scrape(http), name) == {"none": 1}


def test_verdicts_of_more_detectors_than_are_told_apart_share_one_name() -> None:
    metrics = Metrics()
    for i in range(MAX_DETECTORS + 50):
        metrics.count_verdicts(f"detector-{i}", [True])
    metrics.count_verdicts("detector-0", [True])
    found = parse(metrics.text().decode()).by("mcm_verdicts_total", "detector")
    assert len(found) == MAX_DETECTORS + 1
    assert (found["detector-0"], found["_other"]) == (2, 50)
    metrics.forget_detector("detector-0")
    metrics.count_verdicts("detector-new", [False])
    assert parse(metrics.text().decode()).by("mcm_verdicts_total", "detector")["detector-new"] == 1


# ---- the answer of /metrics itself


def test_asking_for_metrics_changes_nothing_but_the_count_of_asking(http: httpx.Client) -> None:
    def all_but_metrics(text: str) -> list[str]:
        return [line for line in text.splitlines() if not re.search('process_|route="/metrics"', line)]

    first, second = http.get("/metrics").text, http.get("/metrics").text
    assert all_but_metrics(first) == all_but_metrics(second)
    assert 'route="/metrics"' in second


def test_names_are_prometheus_own_kind_without_the_time_of_creation(http: httpx.Client) -> None:
    http.post("/v1/score", files=files(RED), data=CONCEPTS)
    for sample in scrape(http).samples:
        assert re.fullmatch(r"(mcm|process)_[a-z_]+", sample.name)
        assert not sample.name.endswith("_created")


def test_unusual_methods_share_one_name(http: httpx.Client) -> None:
    before = scrape(http)
    for method in ("PROPFIND", "MKCOL", "TRACE"):
        assert http.request(method, "/v1/models").status_code == 405
    assert increase(before, scrape(http), "mcm_requests_total", "method") == {"other": 3, "GET": 1}


# ---- Server-Timing


def steps(response: httpx.Response) -> dict[str, float]:
    """Milliseconds by step, from the header."""
    parts = response.headers["server-timing"].split(", ")
    pairs = [part.split(";dur=") for part in parts]
    return {name: float(duration) for name, duration in pairs}


def test_every_answer_about_images_says_where_its_time_went(http: httpx.Client, name: str) -> None:
    create(http, name)
    for response in (
        http.post(f"/v1/detectors/{name}/score", files=files(RED, RED)),
        http.post("/v1/score", files=files(RED), data=CONCEPTS),
        http.post("/v1/score", files=files(RED), data={"detectors": [name, name]}),
        http.post(f"/v1/detectors/{name}/calibrate", files=files(*[RED] * 20)),
    ):
        assert response.status_code == 200
        assert list(steps(response)) == STEPS
        assert all(duration > 0 for duration in steps(response).values())


def test_a_step_that_was_not_taken_took_no_time(http: httpx.Client, name: str) -> None:
    create(http, name)
    embedded = http.post("/v1/embed", files=files(RED))
    assert steps(embedded)["score"] == 0 < steps(embedded)["forward"]
    body = {
        "embeddings": [embedded.json()["results"][0]["embedding"]],
        "fingerprint": embedded.json()["model"]["fingerprint"],
    }
    scored = steps(http.post(f"/v1/detectors/{name}/score", json=body))
    assert scored["queue"] == scored["decode"] == scored["forward"] == 0 < scored["score"]
    bad = steps(http.post("/v1/embed", files=files(b"no image")))
    assert bad["forward"] == 0 < bad["decode"]
    texts = {"texts": ["a text of this test only"]}
    assert steps(http.post("/v1/embed", json=texts))["forward"] > 0
    assert steps(http.post("/v1/embed", json=texts))["forward"] == 0  # known by now


def test_refusals_of_work_say_where_their_time_went_and_other_answers_do_not(http: httpx.Client) -> None:
    assert list(steps(http.post("/v1/score", files=files(RED)))) == STEPS
    for response in (http.get("/healthz"), http.get("/v1/models"), http.get("/v1/detectors")):
        assert "server-timing" not in response.headers
