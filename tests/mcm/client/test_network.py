"""The clients over a real network: lost connections, slow answers, proxies."""

import http.server
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from mcm.client import ConnectionFailed, Timeout, UnexpectedAnswer
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService, problem

Trouble = Callable[[socket.socket], bool]


class NetworkService:
    """A FakeService behind a real HTTP server.

    Each of `before` is called with one request's socket first, and says whether it has dealt with it.
    """

    def __init__(self) -> None:
        self.service = FakeService()
        self.before: list[Trouble] = []
        self.released = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "NetworkService":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        network = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if network.before and network.before.pop(0)(self.connection):
                    return
                url = httpx.URL(network.url).join(self.path)  # a proxy is given the whole URL
                headers = dict(self.headers)
                given = network.service(httpx.Request(self.command, url, headers=headers, content=body))
                self.send_response(given.status_code)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(given.content)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def network() -> Iterator[NetworkService]:
    with NetworkService() as service:
        yield service


def drop(connection: socket.socket) -> bool:
    connection.shutdown(socket.SHUT_RDWR)
    return True


def says(answer: bytes) -> Trouble:
    def say(connection: socket.socket) -> bool:
        connection.sendall(answer)
        return drop(connection)

    return say


half = says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_images_are_scored(connect: Connect, network: NetworkService) -> None:
    results = list(connect(base_url=network.url).score("pets", [b"x" * i for i in range(100)]))
    assert [(r.index, r.score) for r in results] == [(i, i) for i in range(100)]


@pytest.mark.parametrize("trouble", [drop, half])
def test_a_lost_connection_is_made_good(connect: Connect, network: NetworkService, trouble: Trouble) -> None:
    network.before = [trouble]
    assert [r.score for r in connect(base_url=network.url).score("pets", [b"abc"])] == [3]


@pytest.mark.parametrize("trouble", [drop, half])
def test_a_create_whose_answer_is_lost_is_not_repeated(
    connect: Connect, network: NetworkService, trouble: Trouble
) -> None:
    network.before = [trouble]
    with pytest.raises(ConnectionFailed) as caught:
        connect(base_url=network.url).create_detector("pets", ["cat", "dog"])
    assert caught.value.sent
    assert network.service.asked == []


def test_a_slow_answer_is_a_timeout_that_names_the_server(connect: Connect, network: NetworkService) -> None:
    network.before = [lambda _: network.released.wait(30)]
    with pytest.raises(Timeout, match=f"{network.url} did not answer GET /v1/models in time"):
        connect(base_url=network.url, timeout=0.05, max_retries=0).models()


def test_no_server_is_a_failed_connection_that_was_never_sent(connect: Connect) -> None:
    port = closed_port()
    with pytest.raises(ConnectionFailed, match=f"no answer from http://127.0.0.1:{port}") as caught:
        connect(base_url=f"http://127.0.0.1:{port}", max_retries=0).models()
    assert not caught.value.sent
    assert not connect(base_url=f"http://127.0.0.1:{port}").ready()


def test_another_protocol_is_a_clear_error(connect: Connect, network: NetworkService) -> None:
    network.before = [says(b"SSH-2.0-OpenSSH_9.2\r\n")]
    with pytest.raises(ConnectionFailed, match="RemoteProtocolError"):
        connect(base_url=network.url, max_retries=0).models()


def test_a_broken_encoding_is_unexpected(connect: Connect, network: NetworkService) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip"
    network.before = [says(answer)]
    with pytest.raises(UnexpectedAnswer, match="cannot be decoded"):
        connect(base_url=network.url, max_retries=0).models()


def test_a_date_in_retry_after_is_honoured(connect: Connect, network: NetworkService) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    network.service.script = [problem(503, "starting", **{"Retry-After": past}) for _ in range(5)]
    assert connect(base_url=network.url, max_retries=5).detector("pets").name == "pets"


def test_a_refusal_in_the_middle_of_an_upload_is_read(connect: Connect) -> None:
    """A server that refuses by the Content-Length answers before it has read the body, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = problem(413, "too-large").content
        head = b"HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(2**16, socket.MSG_PEEK):
                    pass
                connection.sendall(head + body)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(2**20):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        (result,) = connect(base_url=url, max_retries=0).score("pets", [bytes(8 * 2**20)])
        thread.join(30)
    assert result.error.code == "too-large"


SCRIPT = """
from mcm.client import Client

with Client("{url}", timeout=600) as client:
    print("scoring", flush=True)
    list(client.score("pets", [b"x"] * 100))
"""


def test_a_script_that_ends_does_not_wait_for_answers_on_their_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(url=url)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with silent.accept()[0] as connection:
            assert connection.recv(1)  # the request has arrived
            script.send_signal(signal.SIGINT)
            try:
                _, told = script.communicate(timeout=30)
            finally:
                script.kill()
    assert script.returncode == -signal.SIGINT
    assert told.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    connect: Connect, network: NetworkService, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for host in ("127.0.0.1", "localhost"):
        assert connect(base_url=f"http://{host}:{network.port}").detector("pets").name == "pets"


def test_another_server_is_asked_through_the_proxy_of_the_environment(
    connect: Connect, network: NetworkService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", network.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    connect(base_url="http://ood.test").detector("pets")
    assert network.service.asked[0].headers["Host"] == "ood.test"
