"""One `connect` for both clients, so that every statement about the one is tested on the other."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import httpx
import pytest

from mcm.client import AsyncClient, Client

Handler = Callable[[httpx.Request], httpx.Response]
Connect = Callable[..., Any]


class Waiting:
    """An AsyncClient whose methods wait for their answers, so that a test reads the same for both clients."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if inspect.iscoroutine(answer):
                return self._runner.run(answer)
            return self._walk(answer)

        return call

    def _walk(self, answers: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(answers)
            except StopAsyncIteration:
                return False, None

        try:
            while (found := self._runner.run(following()))[0]:
                yield found[1]
        finally:
            self._runner.run(answers.aclose())


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """A function (handler or None for the network, **arguments of the client) -> client."""
    closing: list[Callable[[], object]] = []

    def connect_sync(handler: Handler | None = None, **kwargs: Any) -> Client:
        transport = None if handler is None else httpx.MockTransport(handler)
        client = Client(transport=transport, **kwargs)
        closing.append(client.close)
        return client

    def connect_async(handler: Handler | None = None, **kwargs: Any) -> Waiting:
        transport = None if handler is None else httpx.MockTransport(handler)
        runner = asyncio.Runner()
        client = AsyncClient(transport=transport, **kwargs)
        closing.extend([runner.close, lambda: runner.run(client.aclose())])
        return Waiting(client, runner)

    yield connect_sync if request.param == "sync" else connect_async
    for close in reversed(closing):
        close()
