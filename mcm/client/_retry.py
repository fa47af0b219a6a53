"""When a request is repeated, and after how long. Pure functions, and the tenacity policy made of them."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypedDict

from tenacity import RetryCallState, retry_base, retry_if_exception, stop_after_attempt
from tenacity.stop import stop_base

from mcm.client.errors import ApiError, ConnectionFailed

BASE_S = 0.5
CAP_S = 8.0
RETRY_AFTER_CAP_S = 60.0

PASSING = frozenset({429, 502, 503, 504})
NOTHING_DONE = frozenset({429, 503})  # refused before any work


class Policy(TypedDict):
    """The arguments that tenacity's Retrying and AsyncRetrying share."""

    stop: stop_base
    wait: Callable[[RetryCallState], float]
    retry: retry_base
    reraise: bool


def policy(max_retries: int, repeatable: bool) -> Policy:
    """How often, when and after how long a request is repeated."""
    return Policy(
        stop=stop_after_attempt(max_retries + 1),
        wait=_wait,
        retry=retry_if_exception(lambda error: may_repeat(error, repeatable)),
        reraise=True,
    )


def may_repeat(error: BaseException, repeatable: bool) -> bool:
    """Whether the request may be sent again after `error`.

    A request that is not repeatable, because doing it twice is not doing it once, is sent again only if
    the server surely did nothing.
    """
    if isinstance(error, ConnectionFailed):
        return repeatable or not error.sent
    if isinstance(error, ApiError):
        return error.status in (PASSING if repeatable else NOTHING_DONE)
    return False


def retry_delay(attempt: int, retry_after: float | None, jitter: float) -> float:
    """Seconds to wait after the failed attempt number `attempt` (1, 2, ...).

    Doubles from 0.5 s to 8 s, of which `jitter` in [0, 1] leaves between half and all. A server's
    Retry-After is waited out instead, up to 60 s, plus up to a tenth so that many clients do not come
    back at once.
    """
    if retry_after is not None:
        return min(retry_after * (1 + 0.1 * jitter), RETRY_AFTER_CAP_S)
    backoff = min(BASE_S * 2.0 ** min(attempt - 1, 10), CAP_S)
    return backoff * (0.5 + 0.5 * jitter)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, >= 0; None for none or one that makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_until(http_date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC, and nothing said of where
        moment = moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, ApiError) else None
    return retry_delay(state.attempt_number, retry_after, random.random())
