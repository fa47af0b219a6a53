"""CASES.md, the rows on weights and on huge and broken requests, over processes and raw sockets."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.calls import assert_serves, connected, files
from tests.pictures import plain
from tests.problems import assert_problem
from tests.server import SERVICE, Server, ended, running

MIB = 2**20
LIMIT = 2 * MIB


# ---- row 10: weights; the other ways to be wrong are in tests/mcm/encoders


def truncated_weights(folder: Path) -> str:
    """A file that begins like a PyTorch archive and breaks off."""
    file = folder / "weights.pt"
    file.write_bytes(b"PK\x03\x04" + bytes(5000))
    return f"ViT-B-32/file:{file}"


def other_architecture(folder: Path) -> str:
    """Sound weights of another model."""
    import torch
    from safetensors.torch import save_file

    file = folder / "weights.safetensors"
    save_file({"visual.conv1.weight": torch.zeros(8, 3, 4, 4)}, file)
    return f"ViT-B-32/file:{file}"


def folder_without_weights(folder: Path) -> str:
    config = {"model_cfg": {"embed_dim": 8}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


WRONG: dict[str, Callable[[Path], str]] = {
    "no such file": lambda folder: f"ViT-B-32/file:{folder / 'nowhere.pt'}",
    "truncated": truncated_weights,
    "other architecture": other_architecture,
    "folder without weights": folder_without_weights,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_row_10_wrong_weights_end_the_service_with_one_clear_line(tmp_path: Path, wrong: str) -> None:
    spec = WRONG[wrong](tmp_path)
    code, lines = ended(tmp_path, SERVICE, encoder=spec, device="cpu")
    assert code == 1, "\n".join(lines)
    assert lines[-1].startswith("error: "), "\n".join(lines)
    assert len(lines[-1]) < 500
    assert "Traceback" not in "\n".join(lines)
    assert not any("[mcm.app]" in line and "ready" in line for line in lines)
    assert any(part in lines[-1] for part in spec.replace("file:", "/").split("/") if part), lines[-1]


# ---- row 16: huge bodies


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("huge"), max_request_bytes=LIMIT, body_timeout=20) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with connected(server.url) as http:
        yield http


@contextlib.contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def head(*lines: str, kind: str = "application/json") -> bytes:
    all_lines = ["POST /v1/score HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *lines]
    return ("\r\n".join(all_lines) + "\r\n\r\n").encode()


def answer(connection: socket.socket) -> tuple[int, str]:
    """Status and problem type of the next answer; (0, "") when the connection ends without one."""
    received = b""
    while b"\r\n\r\n" not in received or b"}" not in received:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            break
        received += data
    if not received:
        return 0, ""
    start, _, body = received.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(body)["type"] if b"problem+json" in start else ""


def memory_kib(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_row_16_a_declared_length_over_the_limit_is_refused_before_the_body(
    server: Server, http: httpx.Client
) -> None:
    with raw(server) as connection:
        connection.sendall(head(f"Content-Length: {100 * MIB}"))
        assert answer(connection) == (413, "/problems/too-large")
    assert_serves(http)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_row_16_a_chunked_body_is_refused_at_the_limit_while_streaming(
    server: Server, http: httpx.Client, kind: str
) -> None:
    before = memory_kib(server)
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    chunk = bytes(64 * 1024)
    with raw(server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked", kind=kind))
        connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(LIMIT // len(chunk) + 2):  # no more than this may be needed
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        assert answer(connection) == (413, "/problems/too-large")
    assert memory_kib(server) - before < 100_000
    assert_serves(http)


def test_row_16_a_hundred_megabytes_are_refused_and_memory_stays_flat(
    server: Server, http: httpx.Client
) -> None:
    before = memory_kib(server)

    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(MIB)

    with contextlib.suppress(httpx.TransportError):  # the service may end the connection while we send
        response = http.post("/v1/score", content=body(), headers={"Content-Type": "application/json"})
        assert_problem(response, 413, "too-large")
    assert memory_kib(server) - before < 100_000
    assert_serves(http)


def test_row_16_a_length_that_is_too_small_ends_the_body_there(server: Server, http: httpx.Client) -> None:
    with raw(server) as connection:
        connection.sendall(head("Content-Length: 5") + b'{"concepts": ["red", "green"]}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert_serves(http)


def test_row_16_a_length_that_is_too_large_harms_nobody(server: Server, http: httpx.Client) -> None:
    with raw(server) as connection:
        connection.sendall(head("Content-Length: 1000") + b"{}")
        assert_serves(http)
    assert_serves(http)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: -1",),
        ("Content-Length: x",),
        ("Content-Length: 1e9",),
        ("Content-Length: " + "9" * 30,),
        ("Content-Length: " + "9" * 5000,),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip",),
    ],
)
def test_row_16_a_length_that_makes_no_sense_is_refused_and_harms_nobody(
    server: Server, http: httpx.Client, lines: tuple[str, ...]
) -> None:
    with raw(server) as connection:
        connection.sendall(head(*lines) + b"hello")
        connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    assert not received or received.split()[1] in (b"400", b"413", b"422"), received
    assert_serves(http)


NOT_HTTP = {
    "nothing": b"",
    "one letter": b"G",
    "TLS": b"\x16\x03\x01\x02\x00",
    "another version": b"GET / HTTP/9.9\r\n\r\n",
    "zeros": bytes(100),
    "long path": b"GET /" + b"x" * 100_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
}


@pytest.mark.parametrize("what", NOT_HTTP)
def test_what_is_not_http_harms_nobody(server: Server, http: httpx.Client, what: str) -> None:
    with raw(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(NOT_HTTP[what])
    assert_serves(http)


# Row 17 is in tests/app/test_api_bodies.py, row 33 in test_consistency.py.


def test_row_15_callers_who_leave_while_sending_are_no_500_and_leak_nothing(
    server: Server, http: httpx.Client
) -> None:
    for _ in range(100):
        with raw(server) as connection:
            connection.sendall(head(f"Content-Length: {LIMIT // 2}") + bytes(1000))
    assert_serves(http)
    assert 'status="500"' not in http.get("/metrics").text
    whole = http.post("/v1/embed", files=files(*[plain("red")] * 200))
    assert whole.status_code == 200
    assert not any("unforeseen" in line or "Traceback" in line for line in server.lines)
