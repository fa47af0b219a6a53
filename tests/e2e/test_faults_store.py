"""A store that is locked, read-only, full or gone while the service runs: scoring goes on, writes are 503."""

import itertools
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.calls import RED, assert_serves, calibrate, connected, create, files
from tests.e2e.faulty import COMMAND, Faults
from tests.problems import assert_problem
from tests.server import Server, ended, running

STORED = ["red", "green", "blue"]


@dataclass(frozen=True)
class Service:
    """A running service, its database, and what makes the database read-only."""

    server: Server
    http: httpx.Client
    database: Path
    faults: Faults


@contextmanager
def started(folder: Path) -> Iterator[Service]:
    """A service with one loaded detector, `a`; at the end it must still answer."""
    faults = Faults(folder / "fault")
    with (
        running(folder, COMMAND, test_fault=faults.file) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http,
    ):
        create(http, "a", STORED)
        calibrate(http, "a")
        yield Service(server, http, folder / "mcm.db", faults)
        assert_serves(http)
        assert http.get("/readyz").status_code == 200
        assert 'status="500"' not in http.get("/metrics").text


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("store")) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Service:
    """A service whose store recovers after the test; the threshold of `a` is 0.302."""
    calibrate(shared_service.http, "a")
    assert score(shared_service.http)["threshold"] == 0.302
    return shared_service


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Service]:
    """The same for a test after which the store does not recover."""
    with started(tmp_path) as service:
        yield service


def score(http: httpx.Client) -> Any:
    response = http.post("/v1/detectors/a/score", files=files(RED))
    assert response.status_code == 200, response.text
    return response.json()


def write(http: httpx.Client, threshold: float, name: str = "a") -> httpx.Response:
    return http.put(f"/v1/detectors/{name}/threshold", json={"threshold": threshold})


def assert_scores_from_memory(http: httpx.Client) -> None:
    answer = score(http)
    assert answer["threshold"] == 0.302
    assert [warning["code"] for warning in answer["warnings"]] == ["store-unreachable"]


def assert_no_write(http: httpx.Client, reason: str) -> None:
    """Every kind of write is 503 and says why."""
    for response in (
        write(http, 0.5),
        http.put("/v1/detectors/a", json={"concepts": ["white", "black"]}),
        http.post("/v1/detectors", json={"name": "b", "concepts": STORED}),
        http.delete("/v1/detectors/a"),
        http.delete("/v1/detectors/a/calibration"),
        http.post("/v1/detectors/a/calibrate", files=files(*[RED] * 40)),
    ):
        problem = assert_problem(response, 503, "store-unavailable")
        assert reason in problem["detail"]
        assert int(response.headers["retry-after"]) >= 1


# ---- read-only


def test_a_store_that_becomes_read_only(service: Service) -> None:
    service.faults.set("read-only")
    assert_no_write(service.http, "read-only")
    answer = score(service.http)
    assert (answer["threshold"], answer["warnings"]) == (0.302, [])
    service.faults.set("")
    assert write(service.http, 0.5).status_code == 200
    assert score(service.http)["threshold"] == 0.5


# ---- full


@contextmanager
def full(server: Server) -> Iterator[None]:
    """No file of the process may grow: what a full disk does to a database."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full(service: Service) -> None:
    with full(service.server):
        assert_no_write(service.http, "disk")
        assert score(service.http)["threshold"] == 0.302
    assert write(service.http, 0.5).status_code == 200
    assert score(service.http)["threshold"] == 0.5


def test_a_disk_that_fills_while_writers_are_at_work(service: Service) -> None:
    """Whatever was acknowledged is there, whatever was refused is not."""
    acknowledged: dict[str, float] = {}
    statuses = set()
    names = [f"d{i}" for i in range(8)]
    for name in names:
        create(service.http, name, STORED)

    def work(name: str) -> None:
        for value in itertools.count(1):
            response = write(service.http, value, name)
            statuses.add(response.status_code)
            if response.status_code != 200:
                assert_problem(response, 503, "store-unavailable")
                return
            acknowledged[name] = value

    with ThreadPoolExecutor(8) as crowd:
        writing = [crowd.submit(work, name) for name in names]
        while len(acknowledged) < 8:
            pass
        with full(service.server):
            for future in writing:
                future.result()
            assert score(service.http)["threshold"] == 0.302
    assert statuses == {200, 503}
    for name in names:
        detector = service.http.get(f"/v1/detectors/{name}").json()
        assert detector["certificate"]["threshold"] == acknowledged[name]


# ---- locked


def test_a_store_that_is_locked_delays_writers_and_nobody_else(service: Service) -> None:
    blocker = sqlite3.connect(service.database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(60) as crowd:
        writing = [crowd.submit(write, service.http, float(i)) for i in range(60)]
        for _ in range(20):
            assert score(service.http)["threshold"] == 0.302
        assert not any(future.done() for future in writing)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert {future.result().status_code for future in writing} == {200}


# ---- removed


def test_a_store_that_is_removed_takes_no_write_that_would_be_lost(doomed: Service) -> None:
    doomed.database.unlink()
    assert_scores_from_memory(doomed.http)
    assert_no_write(doomed.http, "removed or replaced")
    assert_problem(doomed.http.get("/v1/detectors"), 503, "store-unavailable")
    assert not doomed.database.exists(), "no empty one is made in its place"


def test_a_store_that_is_replaced_is_not_mixed_with_the_old_one(doomed: Service, tmp_path: Path) -> None:
    with sqlite3.connect(doomed.database) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    connection.close()
    assert write(doomed.http, 0.7).status_code == 200
    os.replace(tmp_path / "copy.db", doomed.database)
    assert_no_write(doomed.http, "removed or replaced")
    answer = score(doomed.http)
    assert answer["threshold"] == 0.7
    assert [warning["code"] for warning in answer["warnings"]] == ["store-unreachable"]


def test_a_store_that_comes_back_is_used_again(service: Service, tmp_path: Path) -> None:
    away = tmp_path / "away.db"
    service.database.rename(away)
    assert_scores_from_memory(service.http)
    away.rename(service.database)
    assert write(service.http, 0.5).status_code == 200
    answer = score(service.http)
    assert (answer["threshold"], answer["warnings"]) == (0.5, [])


# ---- two servers


def test_a_write_through_one_of_two_servers_is_seen_by_the_other_at_once(tmp_path: Path) -> None:
    """Each of four writers, two at each server, reads its own write through the other server."""
    with (
        running(tmp_path) as first,
        running(tmp_path) as second,
        connected(first.url) as one,
        connected(second.url) as two,
        ThreadPoolExecutor(4) as crowd,
    ):
        start = threading.Barrier(4)

        def work(i: int) -> None:
            here, there = (one, two) if i % 2 else (two, one)
            name = f"d{i}"
            create(here, name, STORED)
            start.wait()
            for value in range(25):
                assert write(here, float(value), name).status_code == 200
                answer = there.post(f"/v1/detectors/{name}/score", files=files(RED)).json()
                assert (answer["threshold"], answer["warnings"]) == (float(value), [])
            assert here.delete(f"/v1/detectors/{name}").status_code == 204
            assert there.get(f"/v1/detectors/{name}").status_code == 404

        for future in [crowd.submit(work, i) for i in range(4)]:
            future.result()


def test_two_servers_race_for_one_detector_and_every_revision_has_one_owner(tmp_path: Path) -> None:
    with (
        running(tmp_path) as first,
        running(tmp_path) as second,
        connected(first.url) as one,
        connected(second.url) as two,
        ThreadPoolExecutor(8) as crowd,
    ):
        create(one, "a", STORED)

        def work(i: int) -> list[int]:
            http = (one, two)[i % 2]
            mine = []
            for step in range(10):
                response = write(http, float(100 * i + step))
                assert response.status_code == 200
                mine.append(int(response.headers["etag"].strip('"')))
            return mine

        revisions = [revision for mine in crowd.map(work, range(8)) for revision in mine]
        assert len(set(revisions)) == 80
        last = one.get("/v1/detectors/a").json()
        assert last == two.get("/v1/detectors/a").json()
        assert last["revision"] == max(revisions)


def test_a_database_that_nobody_may_write_is_a_clear_error_at_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with running(tmp_path):
        pass
    faults = Faults(tmp_path / "fault")
    faults.set("read-only")
    (tmp_path / "mcm.db").rename(tmp_path / "other.db")
    code, lines = ended(tmp_path, COMMAND, test_fault=faults.file)
    assert code == 1
    assert lines[-1].startswith("error: ")
    assert "read-only" in lines[-1]
