"""The process: stopping, loading, being killed, and a crowd in which everything happens at once."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks import load
from benchmarks.faults import Kills
from tests.calls import RED, as_json, assert_serves, connected, files
from tests.e2e.faulty import COMMAND, SLOW_S, Faults
from tests.e2e.sockets import HEALTH, connect, connection, head, part, post, read_answer, read_to_end
from tests.fakes import POISON
from tests.pictures import encode, plain, scene
from tests.problems import assert_problem
from tests.scrapes import scrape
from tests.serve_colours import HOLD, held
from tests.server import COLOURS, Server, running


def gate_in(folder: Path) -> Path:
    os.mkfifo(folder / "gate")
    return folder / "gate"


def wait_for_line(server: Server, text: str) -> None:
    end = time.monotonic() + 20
    while not any(text in line for line in server.lines):
        assert time.monotonic() < end, server.lines
        time.sleep(0.02)


@contextmanager
def opened(fifo: Path) -> Iterator[None]:
    """Wait until somebody reads the FIFO; let them pass at the end of the block."""
    with fifo.open("w"):
        yield


# ---- SIGTERM (CASES 13)


def test_row_13_under_load_what_is_in_flight_is_finished_and_the_exit_is_clean(tmp_path: Path) -> None:
    gate = gate_in(tmp_path)
    with (
        running(tmp_path, test_gate=gate, max_batch=4) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http,
        ThreadPoolExecutor(32) as crowd,
    ):
        plug = crowd.submit(http.post, "/v1/embed", files=files(plain(HOLD)))
        with held(gate):
            sent = [crowd.submit(http.post, "/v1/embed", files=files(RED, RED)) for _ in range(20)]
            while scrape(http).value("mcm_queue_length", queue="model") < 40:
                pass
            with connection(server) as kept:
                kept.sendall(HEALTH)
                assert read_answer(kept)[0] == 200
                server.process.send_signal(signal.SIGTERM)
                assert read_to_end(kept) == b"", "an idle connection is closed"
            with pytest.raises(ConnectionError):
                connect(server)
        for future in (plug, *sent):
            assert future.result().status_code == 200
        assert server.process.wait(20) == 0


def test_row_13_after_the_grace_the_rest_is_told_and_the_exit_is_clean_and_in_time(tmp_path: Path) -> None:
    """One forward never returns, one body never ends."""
    with (
        running(tmp_path, test_gate=gate_in(tmp_path), shutdown_grace_s=2) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http,
        ThreadPoolExecutor() as crowd,
        connection(server) as slow,
    ):
        slow.sendall(head("Content-Length: 100000") + part(b""))
        sent = [crowd.submit(http.post, "/v1/embed", files=files(plain(HOLD))) for _ in range(5)]
        while scrape(http).value("mcm_admission_used_ratio", places="images") * 1024 < 5:
            pass
        server.process.send_signal(signal.SIGTERM)
        for future in sent:
            assert_problem(future.result(), 503, "draining")
        assert read_answer(slow)[0] == 503
        assert server.process.wait(10) == 0
        assert not any("Traceback" in line or "Exception" in line for line in server.lines)


def test_row_13_a_request_that_needs_the_engine_twice_is_finished_too(tmp_path: Path) -> None:
    gate = gate_in(tmp_path)
    with (
        running(tmp_path, test_gate=gate) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http,
        ThreadPoolExecutor() as crowd,
    ):
        concepts = {"concepts": ["HOLD until the signal", "red"]}  # texts, images and tokens, one by one
        sent = crowd.submit(http.post, "/v1/score", files=files(RED), data=concepts)
        with held(gate):
            server.process.send_signal(signal.SIGTERM)
            wait_for_line(server, " stopping")
        assert sent.result().status_code == 200
        assert server.process.wait(10) == 0


def test_row_13_while_it_stops_it_is_not_ready(tmp_path: Path) -> None:
    gate = gate_in(tmp_path)
    with running(tmp_path, test_gate=gate) as server, connection(server) as eager:
        eager.sendall(post(plain(HOLD)) + b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with held(gate):
            server.process.send_signal(signal.SIGTERM)
            wait_for_line(server, " stopping")
        status, _, rest = read_answer(eager)
        assert status == 200
        status, body, _ = read_answer(eager, rest)
        assert (status, b"/problems/draining" in body) == (503, True)
        assert server.process.wait(10) == 0


def test_row_13_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    """In exec form the server is PID 1, which signals reach only if it asks for them."""
    wrapped = ("unshare", "--pid", "--fork", "--kill-child", *COLOURS)
    if subprocess.run([*wrapped[:4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow new process namespaces")
    with running(tmp_path, wrapped) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        first = int(children.read_text())
        assert (
            Path(f"/proc/{first}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[1] == "1"
        )
        os.kill(first, signal.SIGTERM)
        assert server.process.wait(20) == 0


# ---- loading (CASES 11)


def test_row_11_while_the_encoder_loads_it_is_live_and_not_ready(tmp_path: Path) -> None:
    load = tmp_path / "load"
    os.mkfifo(load)
    with (
        running(tmp_path, COMMAND, ready=False, test_load=load) as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        with opened(load):
            for _ in range(20):
                assert http.get("/healthz").status_code == 200
                assert_problem(http.get("/readyz"), 503, "starting")
                answer = http.post("/v1/embed", files=files(RED))
                assert_problem(answer, 503, "starting")
                assert int(answer.headers["retry-after"]) >= 1
                time.sleep(0.05)
            assert http.get("/metrics").status_code == 200
            assert server.process.poll() is None
        server.wait_until_ready()
        assert_serves(http)


def test_row_13_a_server_that_still_loads_stops_at_once(tmp_path: Path) -> None:
    load = tmp_path / "load"
    os.mkfifo(load)
    with running(tmp_path, COMMAND, ready=False, test_load=load) as server, opened(load):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


# ---- SIGKILL (CASES 33)


def test_row_33_every_acknowledged_write_survives_a_power_failure_and_none_is_half(tmp_path: Path) -> None:
    kills = Kills(tmp_path, seed=1)
    for _ in range(5):
        kills.live_and_die()
    kills.last_check()
    assert kills.acknowledged > 0


# ---- everything at once (CASES 12)


def test_row_12_health_is_answered_throughout_full_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = encode(scene((2000, 1500)), "JPEG", quality=95)
    many = [f"word {i}" for i in range(5000)]
    with (
        running(tmp_path) as server,
        connected(server.url) as http,
        ThreadPoolExecutor() as crowd,
    ):
        over = threading.Event()

        def load(i: int) -> set[int]:
            statuses = set()
            while not over.is_set():
                if i == 0:
                    answer = http.put(
                        "/v1/detectors/large", json={"concepts": [*many, str(time.monotonic())]}
                    )
                elif i == 1:
                    answer = http.post("/v1/embed", json=as_json(*[photograph] * 16))
                else:
                    answer = http.post("/v1/embed", files=files(*[photograph] * 16))
                statuses.add(answer.status_code)
            return statuses

        loads = [crowd.submit(load, i) for i in range(8)]
        slowest = 0.0
        with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as health:
            for i in range(30):
                began = time.monotonic()
                assert health.get(("/healthz", "/readyz")[i % 2]).status_code == 200
                took = time.monotonic() - began
                slowest = max(slowest, took)
                time.sleep(max(0.0, 0.1 - took))
        over.set()
        for done in loads:
            assert done.result() <= {200, 201}
    with capsys.disabled():
        print(f" [slowest health answer: {slowest * 1000:.0f} ms]", end="")


def test_overload_leaves_the_work_that_can_be_done_in_time(tmp_path: Path) -> None:
    """300 callers, whose requests are worth 6 s of work, against a time limit of 2 s."""
    faults = Faults(tmp_path / "fault")
    with (
        running(tmp_path, COMMAND, test_fault=faults.file, request_timeout=2, max_batch=8) as server,
        connected(server.url),
    ):
        faults.set("slow")
        port = int(server.url.rpartition(":")[2])
        found = load.run(port, [load.multipart("/v1/embed", [RED])], clients=300, warm_s=3, seconds=3)
        faults.set("")
    could = found.seconds / SLOW_S
    assert found.statuses[200] > could / 2
    assert found.statuses[429] > 0
    assert found.statuses.get(504, 0) < could / 10


ALLOWED = {
    "good": {200, 429},
    "mixed": {200, 429},
    "bad": {415, 429},
    "poison": {503, 429},
    "hurried": {504, 200, 429},
    "huge": {413},
    "slow": {408, 429},
    "leaving": set(),
}


class Crowd:
    """Callers of every kind, each of whom must get one of the answers allowed for the kind."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self.server, self.http = server, http
        self.end = time.monotonic() + 3

    def call(self, seed: int) -> list[str]:
        """Call until the end; the answers that were not allowed."""
        chance = random.Random(seed)
        wrong = []
        while time.monotonic() < self.end:
            kind = chance.choice(list(ALLOWED))
            status = self.once(kind, chance)
            if ALLOWED[kind] and status not in ALLOWED[kind]:
                wrong.append(f"{kind}: {status}")
        return wrong

    def once(self, kind: str, chance: random.Random) -> int:
        bad, poison = b"no image", plain(POISON)
        images = {
            "good": [RED] * chance.randrange(1, 12),
            "mixed": [bad, RED, poison, RED],
            "bad": [bad, bad],
            "poison": [poison],
            "hurried": [RED] * 8,
            "huge": [bytes(3 * 2**20)],
        }
        if kind in images:
            headers = {"X-Request-Timeout": "0.002"} if kind == "hurried" else {}
            return self.http.post("/v1/embed", files=files(*images[kind]), headers=headers).status_code
        with connect(self.server) as raw:
            whole = post(RED)
            if kind == "leaving":
                raw.sendall(whole[: chance.randrange(len(whole) + 1)])
                return 0
            raw.sendall(head("Content-Length: 1000") + part(b"x"))
            return read_answer(raw)[0]


def test_whatever_a_crowd_does_everybody_is_answered_and_all_is_free_afterwards(tmp_path: Path) -> None:
    limits = {"max_queued_images": 24, "max_request_bytes": 2**21, "body_timeout": 1, "max_batch": 4}
    with running(tmp_path, **limits) as server, connected(server.url) as http:  # type: ignore[arg-type]
        crowd = Crowd(server, http)
        with ThreadPoolExecutor(24) as pool:
            wrong = [answer for answers in pool.map(crowd.call, range(24)) for answer in answers]
        assert wrong == []
        end = time.monotonic() + 10
        while left := (
            scrape(http).by("mcm_admission_used_ratio", "places"),
            scrape(http).by("mcm_queue_length", "queue"),
        ):
            if not any(left):
                break
            assert time.monotonic() < end, left
        assert scrape(http).value("mcm_requests_total", status="500") == 0
        assert not any("unforeseen" in line or "Traceback" in line for line in server.lines)
        assert_serves(http)
