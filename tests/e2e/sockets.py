"""HTTP by hand: raw connections to a server, for what no client library would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.server import Server

BOUNDARY = "b"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def connection(server: Server, timeout_s: float = 30) -> Iterator[socket.socket]:
    """A connection that is closed at the end."""
    with connect(server, timeout_s) as open_:
        yield open_


def connect(server: Server, timeout_s: float = 30) -> socket.socket:
    """A connection."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def head(
    *lines: str, path: str = "/v1/embed", kind: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> bytes:
    """The head of a POST."""
    all_lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *lines]
    return ("\r\n".join(all_lines) + "\r\n\r\n").encode()


def part(image: bytes) -> bytes:
    """The begin of a multipart body with one image: what follows would be the next part or the end."""
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="0.png"\r\n\r\n'.encode()
        + image
    )


def post(image: bytes) -> bytes:
    """A whole POST of one image."""
    body = part(image) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return head(f"Content-Length: {len(body)}") + body


def read_answer(connection: socket.socket, received: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status and body of the next answer, and what came after it."""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    start, _, rest = received.partition(b"\r\n\r\n")
    lines = start.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(rest) < length:
        rest += _some(connection)
    return int(start.split()[1]), rest[:length], rest[length:]


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection; a reset counts as closing."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "the server closed the connection"
    return data
