"""Drift of a running service: what it counts, what it tells, and what survives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcm import wire
from tests.calls import RED, calibrate, connected, create, files
from tests.e2e.faulty import COMMAND, Faults
from tests.fakes import ColourEncoder
from tests.pictures import plain
from tests.problems import assert_problem
from tests.scrapes import scrape
from tests.server import ROOT, Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("drift"), drift=1) as server:
        yield server


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[httpx.Client]:
    with connected(server.url) as http:
        yield http


def drift(http: httpx.Client, name: str) -> Any:
    response = http.get(f"/v1/detectors/{name}/drift")
    assert response.status_code == 200, response.text
    return response.json()


def score(http: httpx.Client, name: str, *contents: bytes) -> list[Any]:
    response = http.post(f"/v1/detectors/{name}/score", files=files(*contents))
    assert response.status_code == 200, response.text
    return list(response.json()["results"])


def made(http: httpx.Client, name: str, scores: list[float] | None = None) -> str:
    """A detector calibrated with these scores, or with 200 that red images share."""
    create(http, name)
    value = score(http, name, RED)[0]["score"]
    around = [value + (i - 100) / 1e5 for i in range(200)]
    put(http, name, around if scores is None else scores)
    return name


def put(http: httpx.Client, name: str, scores: list[float]) -> None:
    definition_hash = http.get(f"/v1/detectors/{name}").json()["definition_hash"]
    body = {"scores": scores, "definition_hash": definition_hash}
    response = http.post(f"/v1/detectors/{name}/calibrate", json=body)
    assert response.status_code == 200, response.text


def embed(http: httpx.Client, name: str, count: int, colour: str) -> None:
    """Score so many images of one colour, quickly."""
    row = http.post("/v1/embed", files=files(plain(colour))).json()["results"][0]["embedding"]
    body = {"embeddings": [row] * count, "fingerprint": ColourEncoder().fingerprint, "top_k": 0}
    assert http.post(f"/v1/detectors/{name}/score", json=body).status_code == 200


# ---- what is counted


def test_before_the_first_image_all_is_nothing(http: httpx.Client, name: str) -> None:
    answer = drift(http, made(http, name))
    assert (answer["images"], answer["since"], answer["alarm"], answer["log10_wealth"]) == (0, None, False, 0)
    assert answer["recent"] == {
        "images": 0, "rejected_share": None, "rejected_band": None, "ood_share": None,
    }  # fmt: skip
    assert answer["calibration_images"] == 200
    assert answer["summary"] == "No images have been scored since the calibration."


def test_the_images_of_every_way_to_score_are_counted_and_bad_ones_are_not(
    http: httpx.Client, name: str
) -> None:
    made(http, name)
    score(http, name, RED, b"no image", RED)
    embed(http, name, 5, "red")
    http.post("/v1/score", files=files(RED), data={"detectors": [name, name]})
    http.post("/v1/score", files=files(RED), data={"concepts": ["red", "green"]})
    http.post("/v1/embed", files=files(RED))
    assert drift(http, name)["images"] == 2 + 5 + 2


def test_the_answer_says_since_when_how_many_are_rejected_and_how_many_should_be(
    http: httpx.Client, name: str
) -> None:
    made(http, name)
    embed(http, name, 90, "red")
    embed(http, name, 10, "black")
    answer = drift(http, name)
    recent = answer["recent"]
    assert (recent["images"], recent["rejected_share"]) == (100, 0.1)
    low, high = recent["rejected_band"]
    assert 0 <= low < 0.05 < high < 0.15
    assert answer["since"] <= answer["updated_at"]
    assert answer["revision"] == http.get(f"/v1/detectors/{name}").json()["revision"]
    assert "10 % were called OOD" in answer["summary"]


def test_images_that_look_otherwise_raise_an_alarm_that_stays_and_says_what_it_means(
    http: httpx.Client, name: str
) -> None:
    made(http, name)
    embed(http, name, 300, "black")
    answer = drift(http, name)
    assert answer["alarm"]
    assert answer["log10_wealth"] > answer["log10_alarm_wealth"] == 2
    assert answer["alarm_after"] < 50
    assert answer["recent"]["ood_share"] == pytest.approx(1, abs=0.01)
    assert answer["false_alarm_probability"] == 0.01
    assert answer["summary"].startswith("ALARM: ")
    assert "at most 1 %" in answer["summary"]
    again = drift(http, name)
    assert (again["alarm_at"], again["alarm_after"]) == (answer["alarm_at"], answer["alarm_after"])


def test_a_detector_without_a_threshold_has_no_rejected_share_and_is_watched_all_the_same(
    http: httpx.Client, name: str
) -> None:
    made(http, name)
    http.delete(f"/v1/detectors/{name}/threshold")
    embed(http, name, 300, "black")
    answer = drift(http, name)
    assert answer["alarm"]
    assert (answer["recent"]["rejected_share"], answer["recent"]["rejected_band"]) == (None, None)
    assert "called OOD. " not in answer["summary"]


def test_the_docs_tell_of_every_key() -> None:
    told = (ROOT / "docs" / "drift.md").read_text()
    keys = {*wire.Drift.model_fields, *(f"recent.{key}" for key in wire.RecentImages.model_fields)} - {
        "recent"
    }
    assert {key for key in keys if f"`{key}`" not in told} == set()


# ---- when it begins anew


@pytest.mark.parametrize("change", ["calibrate", "threshold", "definition", "delete and create"])
def test_another_calibration_begins_anew(http: httpx.Client, name: str, change: str) -> None:
    made(http, name)
    embed(http, name, 300, "black")
    assert drift(http, name)["alarm"]
    embed(http, name, 10, "red")  # waits in memory when the change comes
    if change == "calibrate":
        calibrate(http, name)
    elif change == "threshold":
        http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.1})
    elif change == "definition":
        http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "blue"]})
        calibrate(http, name)
    else:
        http.delete(f"/v1/detectors/{name}")
        made(http, name)
    assert drift(http, name)["images"] == 0
    embed(http, name, 3, "red")
    assert (drift(http, name)["images"], drift(http, name)["alarm"]) == (3, False)


def test_a_file_that_is_imported_again_begins_nothing_anew(http: httpx.Client, name: str) -> None:
    made(http, name)
    embed(http, name, 3, "red")
    path = f"/v1/detectors/{name}/file"
    http.put(path, json=http.get(path).json())
    assert drift(http, name)["images"] == 3


# ---- where there is none


def test_a_detector_that_is_not_there_is_404(http: httpx.Client) -> None:
    assert_problem(http.get("/v1/detectors/nowhere/drift"), 404, "detector-not-found")


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_detector_without_calibration_scores_is_409(
    http: httpx.Client, name: str, threshold: float | None
) -> None:
    create(http, name)
    if threshold is not None:
        http.put(f"/v1/detectors/{name}/threshold", json={"threshold": threshold})
    score(http, name, RED)
    problem = assert_problem(http.get(f"/v1/detectors/{name}/drift"), 409, "not-calibrated")
    assert "calibrate with in-distribution images" in problem["detail"]


def test_drift_is_off_by_default_and_says_how_to_turn_it_on(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http:
        made(http, "a")
        score(http, "a", RED)
        problem = assert_problem(http.get("/v1/detectors/a/drift"), 409, "drift-off")
        assert "MCM_DRIFT=1" in problem["detail"]
        assert_problem(http.get("/v1/detectors/b/drift"), 404, "detector-not-found")
        assert not any(sample.name.startswith("mcm_drift") for sample in scrape(http).samples)


# ---- what survives, and who shares it


def test_what_was_seen_survives_a_restart_to_the_last_image(tmp_path: Path) -> None:
    with running(tmp_path, drift=1) as server:
        with connected(server.url) as http:
            made(http, "a")
            embed(http, "a", 300, "black")
            before = drift(http, "a")
            embed(http, "a", 7, "black")
        assert server.stop() == 0
    with running(tmp_path, drift=1) as server, connected(server.url) as http:
        after = drift(http, "a")
        assert after["images"] == 307
        assert (after["since"], after["alarm_at"]) == (before["since"], before["alarm_at"])
        assert scrape(http).value("mcm_drift_alarm", detector="a") == 1


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    with running(tmp_path, drift=1) as server:
        with connected(server.url) as http:
            made(http, "a")
            embed(http, "a", 300, "red")
            before = drift(http, "a")
        server.kill()
    with running(tmp_path, drift=1) as server, connected(server.url) as http:
        assert drift(http, "a") == before


def test_two_servers_on_one_store_keep_one_count(server: Server, tmp_path: Path) -> None:
    with running(tmp_path, drift=1) as first, running(tmp_path, drift=1) as second:
        with connected(first.url) as one, connected(second.url) as other:
            made(one, "a")
            for http in (one, other, one, other):
                embed(http, "a", 100, "red")
                drift(http, "a")
            embed(other, "a", 300, "black")
            assert (drift(other, "a")["images"], drift(other, "a")["alarm"]) == (700, True)
            seen_by_one, seen_by_other = drift(one, "a"), drift(other, "a")
        assert seen_by_one == seen_by_other


def test_an_encoder_that_calibrates_leaves_the_drift_under_another_alone(tmp_path: Path) -> None:
    with running(tmp_path, drift=1) as server, connected(server.url) as http:
        made(http, "a")
        embed(http, "a", 5, "red")
        assert drift(http, "a")["images"] == 5
        second = running(tmp_path, drift=1, test_fingerprint="colours-2")
        with second as another, connected(another.url) as other:
            assert_problem(other.get("/v1/detectors/a/drift"), 409, "not-calibrated")
            calibrate(other, "a")
            assert drift(other, "a")["images"] == 0
        assert drift(http, "a")["images"] == 5
        embed(http, "a", 5, "red")
        assert drift(http, "a")["images"] == 10


# ---- while the store is away


def test_scoring_goes_on_while_the_store_cannot_be_written_and_its_images_are_counted_later(
    tmp_path: Path,
) -> None:
    faults = Faults(tmp_path / "fault")
    with (
        running(tmp_path, COMMAND, test_fault=faults.file, drift=1) as server,
        connected(server.url) as http,
    ):
        made(http, "a")
        faults.set("read-only")
        embed(http, "a", 5, "red")
        assert_problem(http.get("/v1/detectors/a/drift"), 503, "store-unavailable")
        embed(http, "a", 5, "red")
        faults.set("")
        assert drift(http, "a")["images"] == 10


# ---- metrics


def test_the_metrics_of_a_deleted_detector_are_forgotten(http: httpx.Client, name: str) -> None:
    made(http, name)
    embed(http, name, 3, "red")
    drift(http, name)
    assert name in http.get("/metrics").text
    http.delete(f"/v1/detectors/{name}")
    assert name not in http.get("/metrics").text


def test_the_metrics_show_what_the_route_tells(http: httpx.Client, name: str) -> None:
    made(http, name)
    embed(http, name, 300, "black")
    told, seen = drift(http, name), scrape(http)
    assert seen.value("mcm_drift_alarm", detector=name) == 1
    assert seen.value("mcm_drift_images", detector=name) == 300
    wealth = seen.value("mcm_drift_log10_wealth", detector=name)
    assert wealth == pytest.approx(told["log10_wealth"], abs=1e-5)
    assert seen.value("mcm_drift_rejected_ratio", detector=name) == told["recent"]["rejected_share"]
    assert seen.value("mcm_drift_ood_ratio", detector=name) == told["recent"]["ood_share"]
