"""What is stored stays right: across restarts, encoders, crashes, races, and a store that is gone."""

import os
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.calls import RED, calibrate, connected, create, files
from tests.problems import assert_problem
from tests.serve_colours import held
from tests.server import ended, running


def score(http: httpx.Client, name: str = "a") -> Any:
    response = http.post(f"/v1/detectors/{name}/score", files=files(RED))
    assert response.status_code == 200, response.text
    return response.json()


def codes(answer: Any) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


# ---- restarts


def test_concept_embeddings_are_computed_once_and_survive_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    with running(tmp_path, test_texts=log) as server, connected(server.url) as http:
        create(http, "a", ["owl", "kiwi", "emu"])
        first = score(http)
        calibrate(http, "a")
    with running(tmp_path, test_texts=log) as server, connected(server.url) as http:
        again = score(http)
        assert http.put("/v1/detectors/a", json={"concepts": ["owl", "kiwi", "emu"]}).status_code == 200
        assert http.get("/v1/detectors/a/file").status_code == 200
    assert again["results"][0]["score"] == first["results"][0]["score"]
    assert again["threshold"] is not None
    texts = [text for text in log.read_text().splitlines() if text.split()[-1] in ("owl", "kiwi", "emu")]
    assert sorted(texts) == ["a photo of a emu", "a photo of a kiwi", "a photo of a owl"]


def test_equal_detectors_that_another_encoder_made_are_encoded_once_and_each_keeps_its_embeddings(
    tmp_path: Path,
) -> None:
    log, gate = tmp_path / "texts", tmp_path / "gate"
    os.mkfifo(gate)
    concepts = ["HOLD owl", "kiwi"]
    with (
        running(tmp_path, test_gate=gate) as server,
        connected(server.url) as http,
        ThreadPoolExecutor() as pool,
    ):
        for name in ("a", "b"):
            made = pool.submit(create, http, name, concepts)
            if name == "a":
                with held(gate):
                    pass
            made.result()
    second: Any = {"test_fingerprint": "colours-2", "test_texts": log, "test_gate": gate}
    with running(tmp_path, **second) as server, connected(server.url) as http, ThreadPoolExecutor() as pool:
        asked = [pool.submit(score, http, name) for name in ("a", "b")]
        with held(gate):
            pass
        assert [future.result()["detector"] for future in asked] == ["a", "b"]
    with running(tmp_path, **second) as server, connected(server.url) as http:
        for name in ("a", "b"):
            score(http, name)
    assert log.read_text().count("a photo of a kiwi") == 1


def test_everything_survives_a_stop_and_a_start(tmp_path: Path) -> None:
    def state(http: httpx.Client) -> list[Any]:
        paths = ("", "/a", "/b", "/a/file", "/b/file", "/a/calibration", "/b/calibration")
        return [http.get(f"/v1/detectors{path}").json() for path in paths]

    with running(tmp_path) as server:
        with connected(server.url) as http:
            create(http, "a")
            create(http, "b", ["red", {"name": "sea", "prompts": ["blue water"]}], score="energy")
            calibrate(http, "a")
            http.put("/v1/detectors/b/threshold", json={"threshold": 0.1 + 0.2})
            before = state(http)
        assert server.stop() == 0
    with running(tmp_path) as server, connected(server.url) as http:
        assert state(http) == before


# ---- encoders


def test_an_encoder_that_changes_and_changes_back_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "texts"
    with running(tmp_path, test_texts=log) as server, connected(server.url) as http:
        create(http, "a", ["owl", "kiwi", "emu"])
        calibrate(http, "a")
        whole = score(http)
        detector = http.get("/v1/detectors/a").json()
    second = running(tmp_path, test_fingerprint="colours-2", test_texts=log)
    with second as server, connected(server.url) as http:
        answer = score(http)
        assert (answer["threshold"], answer["results"][0]["is_ood"]) == (None, None)
        assert answer["results"][0]["p_value"] is None
        assert answer["results"][0]["score"] is not None
        assert codes(answer) == ["calibrated-under-another-encoder"]
        assert answer["definition_hash"] != whole["definition_hash"]
        assert answer["model"]["fingerprint"] == "colours-2"
        shown = http.get("/v1/detectors/a").json()
        assert (shown["certificate"], codes(shown)) == (None, ["calibrated-under-another-encoder"])
        assert http.get("/v1/detectors/a/calibration").json()["scores"] == []
        required = {"embeddings": [[1.0] * 16], "fingerprint": "colours-2", "require_verdict": True}
        assert_problem(http.post("/v1/detectors/a/score", json=required), 409, "not-calibrated")
        old = {"scores": [0.5] * 40, "definition_hash": whole["definition_hash"]}
        assert_problem(http.post("/v1/detectors/a/calibrate", json=old), 409, "definition-mismatch")
    with running(tmp_path, test_texts=log) as server, connected(server.url) as http:
        assert score(http) == whole
        assert http.get("/v1/detectors/a").json() == detector
    owls = [text for text in log.read_text().splitlines() if "owl" in text]
    assert len(owls) == 2, "once an encoder"


def test_two_servers_with_different_encoders_share_one_store(tmp_path: Path) -> None:
    with (
        running(tmp_path) as first,
        running(tmp_path, test_fingerprint="colours-2") as second,
        connected(first.url) as one,
        connected(second.url) as two,
    ):
        create(one, "a")
        calibrate(one, "a")
        assert codes(score(two)) == ["calibrated-under-another-encoder"]
        under_two = calibrate(two, "a", 30)
        assert (score(one)["threshold"], score(two)["threshold"]) == (0.302, under_two["threshold"])
        assert len(one.get("/v1/detectors/a/calibration").json()["scores"]) == 40
        assert codes(score(one)) == codes(score(two)) == []
        two.put("/v1/detectors/a", json={"concepts": ["white", "black"]})
        assert (score(one)["threshold"], codes(score(one))) == (None, [])
        two.delete("/v1/detectors/a")
        assert_problem(one.get("/v1/detectors/a"), 404, "detector-not-found")
        assert_problem(one.post("/v1/detectors/a/score", files=files(RED)), 404, "detector-not-found")


def test_a_change_made_by_another_process_is_seen_at_the_next_request(tmp_path: Path) -> None:
    with (
        running(tmp_path) as first,
        running(tmp_path) as second,
        connected(first.url) as one,
        connected(second.url) as two,
    ):
        create(one, "a")
        assert score(one)["threshold"] is None
        for threshold in (0.1, 0.2, 0.3):
            two.put("/v1/detectors/a/threshold", json={"threshold": threshold})
            assert score(one)["threshold"] == threshold
        two.delete("/v1/detectors/a/threshold")
        assert score(one)["threshold"] is None


# ---- a store that is gone


def damage(database: Path) -> bytes:
    """Overwrite the database's first pages, as a failing disk does; gives what was there."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = database.read_bytes()
    with database.open("r+b") as file:
        file.write(os.urandom(len(whole)))
    return whole


def test_while_the_store_is_gone_scoring_goes_on_from_memory_and_says_so(tmp_path: Path) -> None:
    database = tmp_path / "mcm.db"
    with running(tmp_path) as server, connected(server.url) as http:
        create(http, "a")
        before = calibrate(http, "a")
        create(http, "deleted")
        score(http, "deleted")
        http.delete("/v1/detectors/deleted")
        whole = damage(database)
        answer = score(http)
        assert answer["threshold"] == before["threshold"]
        assert answer["revision"] == before["revision"]
        assert codes(answer) == ["store-unreachable"]
        many = http.post("/v1/score", files=files(RED), data={"detectors": ["a", "a"]}).json()
        assert [codes(answer) for answer in many["answers"]] == [["store-unreachable"]] * 2
        for response in (
            http.post("/v1/detectors/deleted/score", files=files(RED)),
            http.post("/v1/detectors/unknown/score", files=files(RED)),
            http.get("/v1/detectors/a"),
            http.get("/v1/detectors"),
            http.put("/v1/detectors/a/threshold", json={"threshold": 1}),
            http.post("/v1/detectors", json={"name": "b", "concepts": ["red", "green"]}),
            http.delete("/v1/detectors/a"),
        ):
            assert_problem(response, 503, "store-unavailable")
            assert int(response.headers["retry-after"]) >= 1
        assert http.get("/readyz").status_code == 200
    database.write_bytes(whole)
    with running(tmp_path) as server, connected(server.url) as http:
        answer = score(http)
        assert (answer["threshold"], codes(answer)) == (before["threshold"], [])


def test_a_writer_that_blocks_the_store_does_not_stop_scoring(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http:
        create(http, "a")
        blocker = sqlite3.connect(tmp_path / "mcm.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        assert codes(score(http)) == []
        headers = {"X-Request-Timeout": "0.3"}
        late = http.put("/v1/detectors/a/threshold", json={"threshold": 1}, headers=headers)
        assert_problem(late, 504, "deadline-exceeded")
        blocker.execute("ROLLBACK")
        blocker.close()
        assert http.put("/v1/detectors/a/threshold", json={"threshold": 2}).status_code == 200


# ---- races and crashes


def test_two_creates_of_one_name_at_once_give_one_201_and_one_409(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http, ThreadPoolExecutor(8) as crowd:
        for round_ in range(5):
            bodies = [{"name": f"race-{round_}", "concepts": ["red", f"word {i}"]} for i in range(4)]
            start = threading.Barrier(4)

            def post(body: Any, start: threading.Barrier = start) -> httpx.Response:
                start.wait()
                return http.post("/v1/detectors", json=body)

            responses = list(crowd.map(post, bodies))
            assert sorted(response.status_code for response in responses) == [201, 409, 409, 409]
            (winner,) = [response.json() for response in responses if response.status_code == 201]
            assert http.get(f"/v1/detectors/race-{round_}").json() == winner
            for response in responses:
                if response.status_code == 409:
                    assert_problem(response, 409, "name-taken")


def test_a_create_that_encodes_while_the_name_is_taken_is_409(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with (
        running(tmp_path, test_gate=gate) as server,
        connected(server.url) as http,
        ThreadPoolExecutor() as crowd,
    ):
        assert http.post("/v1/embed", json={"texts": ["a photo of a red", "a photo of a blue"]}).is_success
        slow = crowd.submit(http.post, "/v1/detectors", json={"name": "a", "concepts": ["HOLD", "red"]})
        with held(gate):
            fast = create(http, "a", ["red", "blue"])
        assert_problem(slow.result(), 409, "name-taken")
        assert http.get("/v1/detectors/a").json() == fast


def test_a_calibration_never_lands_on_a_definition_that_did_not_make_it(tmp_path: Path) -> None:
    definitions = [["red", "green"], ["white", "black", "blue"]]
    with running(tmp_path) as server, connected(server.url) as http, ThreadPoolExecutor(4) as crowd:
        create(http, "a", definitions[0])
        images = files(*[RED] * 30)

        def replace(i: int) -> int:
            return http.put("/v1/detectors/a", json={"concepts": definitions[i % 2]}).status_code

        def calibrate_(_: int) -> int:
            return http.post("/v1/detectors/a/calibrate", files=images).status_code

        done = [crowd.submit(work, i) for i in range(15) for work in (replace, calibrate_)]
        statuses = {future.result() for future in done}
        assert statuses <= {200, 409}
        detector = http.get("/v1/detectors/a").json()
        calibration = http.get("/v1/detectors/a/calibration").json()
        if detector["certificate"] is not None:
            assert detector["certificate"]["definition_hash"] == detector["definition_hash"]
            assert set(calibration["scores"]) == {score(http)["results"][0]["score"]}


def test_of_many_writes_against_one_revision_one_is_done(tmp_path: Path) -> None:
    with running(tmp_path) as server, connected(server.url) as http, ThreadPoolExecutor(8) as crowd:
        headers = {"If-Match": f'"{create(http, "a")["revision"]}"'}

        def put(i: int) -> int:
            body = {"threshold": float(i)}
            return http.put("/v1/detectors/a/threshold", json=body, headers=headers).status_code

        assert sorted(crowd.map(put, range(8))) == [200] + [412] * 7


def create_until_killed(
    url: str, prefix: str, answered: dict[str, Any], until: int, enough: threading.Event
) -> None:
    """Create and calibrate one detector after another; `answered` gets what was answered."""
    with httpx.Client(base_url=url, trust_env=False) as http:
        for i in range(100):
            name = f"{prefix}-{i}"
            try:
                created = create(http, name)
                answered[name] = (created["definition_hash"], None)
                answered[name] = (created["definition_hash"], calibrate(http, name)["threshold"])
            except httpx.TransportError:
                return
            if i >= until:
                enough.set()


def test_a_power_failure_while_creating_leaves_every_detector_whole_or_absent(tmp_path: Path) -> None:
    chance = random.Random(0)
    answered: dict[str, Any] = {}
    for life in range(3):
        with running(tmp_path) as server:
            until = chance.randrange(1, 12)
            enough = threading.Event()

            workers = [
                threading.Thread(
                    target=create_until_killed,
                    args=(server.url, f"d-{life}-{worker}", answered, until, enough),
                )
                for worker in range(3)
            ]
            for worker in workers:
                worker.start()
            assert enough.wait(60)
            server.kill()
            for worker in workers:
                worker.join()
    with running(tmp_path) as server, connected(server.url) as http:
        listed = {d["name"] for d in http.get("/v1/detectors", params={"limit": 1000}).json()["detectors"]}
        assert answered.keys() <= listed, "what was answered is there"
        for name in listed:
            file = http.get(f"/v1/detectors/{name}/file").json()
            assert len(file["calibration_scores"]) in (0, 40)
            assert (file["certificate"] is None) == (file["calibration_scores"] == [])
            assert http.put(f"/v1/detectors/{name}-copy/file", json=file).status_code == 201
            if name in answered and answered[name][1] is not None:
                assert file["certificate"]["threshold"] == answered[name][1]


def test_a_folder_in_the_place_of_the_database_is_a_clear_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "mcm.db").mkdir()
    code, lines = ended(tmp_path)
    assert code == 1
    assert lines[-1].startswith("error: ")
