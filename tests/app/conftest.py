"""One running service with the colour encoder for all tests of its API."""

import itertools
from collections.abc import Iterator

import httpx
import pytest

from tests.calls import assert_serves, connected
from tests.server import Server, running

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as a process of its own."""
    with running(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture(scope="session")
def connection(server: Server) -> Iterator[httpx.Client]:
    """A client of it."""
    with connected(server.url) as http:
        yield http


@pytest.fixture
def http(connection: httpx.Client) -> Iterator[httpx.Client]:
    """The client; after each test the service must still answer normally."""
    yield connection
    assert_serves(connection)


@pytest.fixture
def name() -> str:
    """A detector name that no other test uses."""
    return f"detector-{next(_NUMBERS)}"
