"""The two ways to send a `Call` or a `Batch`: with threads, and with asyncio. What differs is only here."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying, Retrying

from mcm.client._answers import foreign_errors_translated, read
from mcm.client._batches import Batch, Chunk, Chunker, Piece, R
from mcm.client._calls import Call, build
from mcm.client._images import Item
from mcm.client._retry import policy
from mcm.client.errors import ApiError

A = TypeVar("A")


class Session:
    """Sends calls over an httpx.Client, chunks in up to `max_in_flight` threads."""

    def __init__(self, http: httpx.Client, max_retries: int, max_in_flight: int) -> None:
        self.http = http
        self._max_retries = max_retries
        self._max_in_flight = max_in_flight

    def send(self, call: Call[A], abandoned: threading.Event | None = None) -> A:
        """The answer, after as many retries as are allowed; `abandoned`, once set, ends waiting for them."""
        sleep = partial(_sleep, abandoned or threading.Event())
        for attempt in Retrying(sleep=sleep, **policy(self._max_retries, call.repeatable)):
            with attempt:
                return self.send_once(call, attempt.retry_state.attempt_number)
        raise AssertionError("unreachable: the last failure is raised")

    def send_once(self, call: Call[A], attempt: int = 1) -> A:
        """The answer to one attempt."""
        request = build(self.http, call)
        with foreign_errors_translated(request):
            response = self.http.send(request)
        return read(call, response, attempt)

    def pieces(self, batch: Batch[A, R], items: Iterable[Item]) -> Generator[Piece[A, R], None, None]:
        """Rows for all items, in order. Items are taken as requests have room for them, in this thread."""
        abandoned = threading.Event()
        running: deque[Future[list[Piece[A, R]]]] = deque()
        try:
            for chunk in _chunks(batch, items):
                running.append(_started(partial(self._pieces_of, batch, chunk, abandoned)))
                while len(running) >= self._max_in_flight or (running and running[0].done()):
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            abandoned.set()

    def _pieces_of(self, batch: Batch[A, R], chunk: Chunk, abandoned: threading.Event) -> list[Piece[A, R]]:
        if not chunk.sound:
            return [batch.unsent(chunk)]
        try:
            answer = self.send(batch.call(chunk.sound), abandoned)
        except ApiError as error:
            left = batch.refused(chunk, error)
            if isinstance(left, Piece):
                return [left]
            return [piece for half in left for piece in self._pieces_of(batch, half, abandoned)]
        return [batch.answered(chunk, answer)]


class AsyncSession:
    """Sends calls over an httpx.AsyncClient, chunks in up to `max_in_flight` tasks."""

    def __init__(self, http: httpx.AsyncClient, max_retries: int, max_in_flight: int) -> None:
        self.http = http
        self._max_retries = max_retries
        self._max_in_flight = max_in_flight

    async def send(self, call: Call[A]) -> A:
        """The answer, after as many retries as are allowed."""
        async for attempt in AsyncRetrying(sleep=asyncio.sleep, **policy(self._max_retries, call.repeatable)):
            with attempt:
                return await self.send_once(call, attempt.retry_state.attempt_number)
        raise AssertionError("unreachable: the last failure is raised")

    async def send_once(self, call: Call[A], attempt: int = 1) -> A:
        """The answer to one attempt."""
        request = build(self.http, call)
        with foreign_errors_translated(request):
            response = await self.http.send(request)
        return read(call, response, attempt)

    async def pieces(
        self, batch: Batch[A, R], items: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Piece[A, R], None]:
        """Rows for all items, in order. Items are taken as requests have room for them."""
        running: deque[asyncio.Task[list[Piece[A, R]]]] = deque()
        try:
            async with aclosing(_async_chunks(batch, items)) as chunks:
                async for chunk in chunks:
                    running.append(asyncio.create_task(self._pieces_of(batch, chunk)))
                    while len(running) >= self._max_in_flight or (running and running[0].done()):
                        for piece in await running.popleft():
                            yield piece
            while running:
                for piece in await running.popleft():
                    yield piece
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _pieces_of(self, batch: Batch[A, R], chunk: Chunk) -> list[Piece[A, R]]:
        if not chunk.sound:
            return [batch.unsent(chunk)]
        try:
            answer = await self.send(batch.call(chunk.sound))
        except ApiError as error:
            left = batch.refused(chunk, error)
            if isinstance(left, Piece):
                return [left]
            return [piece for half in left for piece in await self._pieces_of(batch, half)]
        return [batch.answered(chunk, answer)]


def _started(work: Callable[[], A]) -> Future[A]:
    """The outcome to come of `work`, in a thread of its own.

    A daemon, which no pool's threads are: the interpreter does not wait for it when the program ends, and
    an answer may take minutes.
    """
    future: Future[A] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            future.set_exception(error)

    threading.Thread(target=run, name="mcm-client", daemon=True).start()
    return future


def _sleep(abandoned: threading.Event, seconds: float) -> None:
    if abandoned.wait(seconds):
        raise CancelledError("nobody waits for this answer any more")


def _chunks(batch: Batch[A, R], items: Iterable[Item]) -> Iterator[Chunk]:
    chunker = Chunker(batch.limits)
    for item in items:
        yield from chunker.add(item)
    yield from chunker.rest()


async def _async_chunks(batch: Batch[A, R], items: AsyncGenerator[Item, None]) -> AsyncGenerator[Chunk, None]:
    chunker = Chunker(batch.limits)
    async with aclosing(items):
        async for item in items:
            for chunk in chunker.add(item):
                yield chunk
    for chunk in chunker.rest():
        yield chunk
