"""Answers read: a response becomes what the contract says, or the error that it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import httpx
from pydantic import ValidationError

from mcm import wire
from mcm.client._calls import Call, explained
from mcm.client._retry import parse_retry_after
from mcm.client.errors import ApiError, ConnectionFailed, Timeout, UnexpectedAnswer, error_class

A = TypeVar("A")

EXCERPT_CHARS = 200
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def read(call: Call[A], response: httpx.Response, attempt: int) -> A:
    """What the server answered to attempt number `attempt` (1, 2, ...) of the call.

    A repeated DELETE that finds nothing has succeeded: an earlier attempt deleted it, and only its answer
    was lost.

    Raises:
        ApiError: an error, by its status.
        UnexpectedAnswer: an answer that is not in the contract.
    """
    gone = call.method == "DELETE" and response.status_code == 404 and attempt > 1
    if gone:
        return call.read(b"")
    if response.status_code >= 400:
        raise _api_error(response)
    if not response.is_success:
        raise UnexpectedAnswer(f"{_told(response)}: is the base_url the service's own?")
    try:
        return call.read(response.content)
    except ValidationError as error:
        raise UnexpectedAnswer(f"{_told(response)}, not in the contract: {explained(error)}") from error


@contextmanager
def foreign_errors_translated(request: httpx.Request) -> Iterator[None]:
    """The one seam at which httpx's errors become ours.

    Raises:
        Timeout: no answer in time.
        ConnectionFailed: no answer.
        UnexpectedAnswer: an answer that cannot be decoded.
    """
    server = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
    try:
        yield
    except httpx.TimeoutException as error:
        told = f"{server} did not answer {request.method} {request.url.path} in time ({_cause(error)})"
        raise Timeout(told, not isinstance(error, NEVER_SENT)) from error
    except httpx.TransportError as error:
        told = f"no answer from {server} to {request.method} {request.url.path} ({_cause(error)})"
        raise ConnectionFailed(told, not isinstance(error, NEVER_SENT)) from error
    except httpx.DecodingError as error:
        raise UnexpectedAnswer(f"the answer of {server} cannot be decoded ({_cause(error)})") from error


def _api_error(response: httpx.Response) -> ApiError:
    problem = _problem(response)
    return error_class(response.status_code)(
        problem,
        response.status_code,
        response.headers.get("X-Request-ID") or problem.instance,
        parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
    )


def _problem(response: httpx.Response) -> wire.Problem:
    """The problem that the server sent; one of our own where a proxy or another server spoke."""
    try:
        return wire.Problem.model_validate_json(response.content)
    except ValidationError:
        return wire.Problem(
            type="/problems/foreign-error",
            title="Not an error of this service",
            status=response.status_code,
            detail=f"{_told(response)}, which is no problem document: a proxy's, or another server's?",
        )


def _told(response: httpx.Response) -> str:
    """The answer in a few words."""
    kind = response.headers.get("Content-Type", "no Content-Type")
    text = " ".join(response.text[: 4 * EXCERPT_CHARS].split())
    excerpt = text[:EXCERPT_CHARS] + ("..." if len(text) > EXCERPT_CHARS else "")
    request = response.request
    return f"{request.method} {request.url.path} answered {response.status_code} with {kind}: {excerpt!r}"


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
