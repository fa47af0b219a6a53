"""Callers who are slow, who leave, who send too much or nonsense: they harm nobody, and get an answer."""

import asyncio
import os
import resource
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app import connection as limits
from tests.calls import RED, assert_serves, connected, files
from tests.e2e.faulty import COMMAND
from tests.e2e.sockets import HEALTH, connect, connection, head, part, post, read_answer, read_to_end
from tests.pictures import plain
from tests.scrapes import increase, scrape
from tests.serve_colours import HOLD, held
from tests.server import Server, running

MIB = 2**20
LIMIT = 2 * MIB
BODY_TIMEOUT_S = 3


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gate = tmp_path_factory.mktemp("clients") / "gate"
    os.mkfifo(gate)
    return gate


@pytest.fixture(scope="module")
def server(gate: Path) -> Iterator[Server]:
    with running(
        gate.parent,
        max_request_bytes=LIMIT,
        max_queued_bytes=16 * MIB,
        body_timeout=BODY_TIMEOUT_S,
        test_gate=gate,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that waits for heads, drained bodies and takers of answers for a moment only."""
    folder = tmp_path_factory.mktemp("hurried")
    with running(folder, COMMAND, max_request_bytes=LIMIT, test_hurry=0.5) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client; afterwards nothing is held, nothing was unforeseen, and the service answers."""
    with connected(server.url) as http:
        yield http
        wait_until_idle(http)
        assert scrape(http).value("mcm_requests_total", status="500") == 0
        assert not any("unforeseen" in line or "Traceback" in line or "ASGI" in line for line in server.lines)


def wait_until_idle(http: httpx.Client) -> None:
    """Every place that admission gave is given back."""
    end = time.monotonic() + 20
    while left := scrape(http).by("mcm_admission_used_ratio", "places"):
        assert time.monotonic() < end, left
        time.sleep(0.02)


def reset(connection: socket.socket) -> None:
    """End a connection as a process does that crashes: RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def is_cut_off(connection: socket.socket, data: bytes, *, times: int, pause_s: float = 0) -> bool:
    """Whether the service ends the connection while `data` is sent over and over."""
    for _ in range(times):
        try:
            connection.sendall(data)
        except OSError:  # also a time-out: the service reads no more
            return True
        time.sleep(pause_s)
    return False


# ---- who leaves (CASES 15)


def test_row_15_a_hundred_resets_while_sending_leave_nothing_behind(
    server: Server, http: httpx.Client
) -> None:
    before = scrape(http)
    for _ in range(100):
        leaving = connect(server)
        leaving.sendall(head(f"Content-Length: {MIB}") + part(RED))
        reset(leaving)
    wait_until_idle(http)
    assert increase(before, scrape(http), "mcm_batch_size_sum", "kind") == {}


def test_row_15_a_hundred_resets_while_queued_are_not_computed(
    server: Server, http: httpx.Client, gate: Path
) -> None:
    before = scrape(http)
    with ThreadPoolExecutor() as crowd:
        plug = crowd.submit(http.post, "/v1/embed", files=files(plain(HOLD)))
        with held(gate):
            leaving = [connect(server) for _ in range(100)]
            for caller in leaving:
                caller.sendall(post(RED))
            while scrape(http).value("mcm_queue_length", queue="model") < 100:
                pass
            for caller in leaving:
                reset(caller)
            while scrape(http).value("mcm_queue_length"):
                pass
        assert plug.result().status_code == 200
    after = scrape(http)
    assert increase(before, after, "mcm_batch_size_sum", "kind") == {"images": 1}
    assert increase(before, after, "mcm_images_total", "outcome") == {"embedded": 1, "dropped": 100}


# ---- who are many (CASES 9)


def allow_files(count: int) -> int:
    """Let this process have `count` files open, or as many as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
    return min(count, hard)


async def at_once(server: Server, count: int) -> Counter[int]:
    """The statuses of many requests on as many connections, all sent together."""
    port = int(server.url.rpartition(":")[2])

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(RED))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.close()
        status = int(head.split()[1])
        assert status == 200 or b"retry-after: " in head
        return status

    return Counter(await asyncio.gather(*(one() for _ in range(count))))


def test_row_9_of_five_thousand_at_once_some_are_served_and_the_rest_refused(tmp_path: Path) -> None:
    count = allow_files(5500) - 500
    with (
        running(tmp_path, max_queued_images=64, log_level="warning") as server,
        connected(server.url) as http,
    ):
        before = memory_mib(server)
        statuses = asyncio.run(at_once(server, count))
        assert statuses[200] > 0
        assert statuses[200] + statuses[429] == count
        assert memory_mib(server) - before < 200
        assert_serves(http)
        assert server.lines[3:] == [], "nothing was unforeseen"


def memory_mib(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# ---- who is slow (CASES 14)


def test_row_14_two_hundred_slow_uploads_delay_nobody_and_end_with_408(
    server: Server, http: httpx.Client
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connection(server)) for _ in range(200)]
        for caller in slow:  # together they declare 25 times what is admitted at once
            caller.sendall(head(f"Content-Length: {LIMIT}") + part(b""))
        for _ in range(2):
            for caller in slow:
                caller.sendall(b"x")
            assert_serves(http)
            time.sleep(1)
        large = http.post("/v1/embed", files=files(RED, bytes(MIB)))
        assert large.status_code == 200, "what the slow declared is not taken from others"
        for caller in slow:
            received = read_to_end(caller)
            assert received.startswith(b"HTTP/1.1 408 ")
            assert b"/problems/slow-body" in received
            assert b"connection: close" in received.lower()


def test_a_head_that_does_not_arrive_in_time_ends_the_connection(
    server: Server, http: httpx.Client, hurried: Server
) -> None:
    for begin in (b"", b"GET /healthz HTTP/1.1\r\nHost: local", HEALTH + b"GET"):
        with connection(hurried) as slow:
            slow.sendall(begin)
            received = read_to_end(slow)
            assert received.endswith(b"}") == bool(begin)
            assert (b"HTTP/1.1 408 " in received) == bool(begin)


# ---- who sends too much (CASES 16)


def test_a_client_that_sends_on_after_a_413_still_gets_it_and_can_go_on(
    server: Server, http: httpx.Client
) -> None:
    for size in (LIMIT + 1, 30 * MIB):
        with connection(server) as stubborn:
            stubborn.sendall(head(f"Content-Length: {size}"))
            stubborn.sendall(bytes(size))
            assert read_answer(stubborn)[0] == 413
            stubborn.sendall(HEALTH)
            assert read_answer(stubborn)[0] == 200


def test_after_a_413_no_more_is_read_than_a_bound(server: Server, http: httpx.Client) -> None:
    chunk = f"{MIB:x}\r\n".encode() + bytes(MIB) + b"\r\n"
    with connection(server) as endless:
        endless.sendall(head("Transfer-Encoding: chunked", kind="application/json"))
        assert is_cut_off(endless, chunk, times=2 * limits.DRAINED_BYTES // MIB)
        assert read_to_end(endless).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_never_ends_after_its_answer_ends_the_connection_in_time(
    hurried: Server, http: httpx.Client
) -> None:
    with connection(hurried) as endless:
        endless.sendall(head(f"Content-Length: {10**9}"))
        assert read_answer(endless)[0] == 413
        assert is_cut_off(endless, b"x", times=1000, pause_s=0.02)


def test_who_asks_before_sending_gets_the_refusal_and_the_end_of_the_connection(
    server: Server, http: httpx.Client
) -> None:
    with connection(server) as polite:
        polite.sendall(head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        received = read_to_end(polite)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received.lower()


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nA: "])
def test_a_head_without_end_is_refused(server: Server, http: httpx.Client, begin: bytes) -> None:
    with connection(server) as endless:
        with suppress(ConnectionError):
            endless.sendall(begin)
            for _ in range(4 * limits.HEAD_BYTES // 1000):
                endless.sendall(b"a" * 1000)
        received = read_to_end(endless)
    assert not received or received.startswith(b"HTTP/1.1 431 ")


def test_a_head_of_many_lines_is_refused(server: Server, http: httpx.Client) -> None:
    with connection(server) as endless:
        with suppress(ConnectionError):
            endless.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * (limits.HEAD_BYTES // 6)
            )
            endless.sendall(b"\r\n")
        received = read_to_end(endless)
    assert not received or received.startswith(b"HTTP/1.1 431 ")


# ---- who never reads


def test_an_answer_that_nobody_takes_is_not_kept_for_ever(hurried: Server, http: httpx.Client) -> None:
    """The service ends the connection; what it keeps for it is let go."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connection(hurried) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert is_cut_off(deaf, ask, times=1000, pause_s=0.01)


# ---- one connection, many requests


def test_requests_sent_ahead_are_answered_in_order(server: Server, http: httpx.Client) -> None:
    with connection(server) as eager:
        eager.sendall(post(RED) + HEALTH + post(b"no image") + head("Content-Length: 2") + b"{}" + HEALTH)
        statuses, rest = [], b""
        for _ in range(5):
            status, _, rest = read_answer(eager, rest)
            statuses.append(status)
    assert statuses == [200, 200, 415, 400, 200]


def test_after_every_kind_of_error_the_connection_serves_on(server: Server, http: httpx.Client) -> None:
    errors = {
        404: b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        405: b"PUT /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        403: b"POST /v1/embed HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000),
        400: head("Content-Length: 2") + b"{}",
        413: head(f"Content-Length: {LIMIT + 1}") + bytes(LIMIT + 1),
        415: head("Content-Length: 100000", kind="text/plain") + bytes(100_000),
        422: head("Content-Length: 2", kind="application/json") + b"[]",
    }
    with connection(server) as patient:
        for status, request in errors.items():
            patient.sendall(request)
            assert read_answer(patient)[0] == status
            patient.sendall(post(RED))
            assert read_answer(patient)[0] == 200


def test_an_offer_of_another_protocol_is_ignored(server: Server, http: httpx.Client) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    body = part(RED) + b"\r\n--b--\r\n"
    with connection(server) as modern:
        for _ in range(2):
            modern.sendall(head(*offer, f"Content-Length: {len(body)}") + body)
            assert read_answer(modern)[0] == 200
        modern.sendall(HEALTH.replace(b"\r\n\r\n", b"\r\n" + "\r\n".join(offer).encode() + b"\r\n\r\n"))
        assert read_answer(modern)[0] == 200
        modern.sendall(HEALTH)
        assert read_answer(modern)[0] == 200


GARBAGE = {
    "letters": b"hello\r\n\r\n",
    "zeros": bytes(100),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "address": b"GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "host only": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the address": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": head("Content-Length: 1", "Content-Length: 2") + b"xx",
    "length and chunks": head("Content-Length: 1", "Transfer-Encoding: chunked") + b"x",
    "chunk size": head("Transfer-Encoding: chunked") + b"zz\r\n",
    "space in a name": b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "after a request": HEALTH + b"\x00\x01\x02\x03\r\n\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_not_http_is_400_and_the_end(server: Server, http: httpx.Client, what: str) -> None:
    with connection(server, timeout_s=10) as garbled:
        garbled.sendall(GARBAGE[what])
        received = read_to_end(garbled)
    last = received[received.rindex(b"HTTP/1.1 ") :]
    assert last.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in last.lower()
    assert b"application/problem+json" in last


# ---- keep-alive


def test_a_connection_is_kept_longer_than_clients_keep_theirs(server: Server, http: httpx.Client) -> None:
    """Go's and Java's pools, nginx and load balancers keep one for up to 60 or 90 seconds."""
    assert limits.KEEP_ALIVE_S > 90
    with connection(server) as kept:
        kept.sendall(HEALTH)
        assert read_answer(kept)[0] == 200
        closed, _, _ = select.select([kept], [], [], 6)  # uvicorn's own limit is 5 s
        assert not closed
        kept.sendall(HEALTH)
        assert read_answer(kept)[0] == 200
