"""When a request is repeated, and after how long."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.client import ConnectionFailed, NotFound, Overloaded, ServerError, Timeout, Unavailable
from mcm.client._retry import parse_retry_after, retry_delay
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService, busy, problem

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "jitter", "seconds"),
    [
        (1, None, 1.0, 0.5),
        (1, None, 0.0, 0.25),
        (2, None, 1.0, 1.0),
        (3, None, 1.0, 2.0),
        (5, None, 1.0, 8.0),
        (6, None, 1.0, 8.0),
        (6, None, 0.5, 6.0),
        (10_000, None, 1.0, 8.0),
        (1, 0.0, 1.0, 0.0),
        (1, 10.0, 0.0, 10.0),
        (1, 10.0, 1.0, 11.0),
        (1, 60.0, 1.0, 60.0),
        (1, 3600.0, 0.0, 60.0),
    ],
)
def test_the_delay_doubles_to_a_cap_and_gives_way_to_retry_after(
    attempt: int, retry_after: float | None, jitter: float, seconds: float
) -> None:
    assert retry_delay(attempt, retry_after, jitter) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-4", 0.0),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 12:00:30 -0000", 30.0),
        ("Wed, 01 May 2024 14:00:30 +0200", 30.0),
        ("Wed, 01 May 2024 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_none_or_a_wait(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(connect: Connect, status: int) -> None:
    service = FakeService(busy(status), busy(status))
    assert connect(service).detector("pets").name == "pets"
    assert len(service.asked) == 3


def test_the_last_failure_is_raised_when_the_retries_are_used_up(connect: Connect) -> None:
    service = FakeService(*[busy(429) for _ in range(9)])
    with pytest.raises(Overloaded) as caught:
        connect(service, max_retries=1).detector("pets")
    assert len(service.asked) == 2
    assert caught.value.retry_after == 0.0


def test_no_retries_means_one_attempt(connect: Connect) -> None:
    service = FakeService(busy())
    with pytest.raises(Unavailable):
        connect(service, max_retries=0).detector("pets")
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 500, 501])
def test_a_lasting_failure_is_not_tried_again(connect: Connect, status: int) -> None:
    service = FakeService(busy(status))
    with pytest.raises(Exception, match=f"^{status} busy"):
        connect(service).detector("pets")
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_create_that_was_refused_is_tried_again(connect: Connect, status: int) -> None:
    service = FakeService(busy(status))
    connect(service).create_detector("pets", ["cat", "dog"])
    assert service.roads == ["POST /v1/detectors"] * 2


@pytest.mark.parametrize("status", [502, 504])
def test_a_create_that_may_have_happened_is_not_tried_again(connect: Connect, status: int) -> None:
    service = FakeService(busy(status))
    with pytest.raises(ServerError):
        connect(service).create_detector("pets", ["cat", "dog"])
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("lost", "error"),
    [(httpx.ReadTimeout("slow"), Timeout), (httpx.RemoteProtocolError("gone"), ConnectionFailed)],
)
def test_writes_that_are_not_idempotent_are_not_repeated_after_a_lost_answer(
    connect: Connect, lost: Exception, error: type[ConnectionFailed]
) -> None:
    writes: list[Callable[[Any], object]] = [
        lambda client: client.create_detector("pets", ["cat", "dog"]),
        lambda client: client.calibrate("pets", scores=[0.5] * 20, definition_hash="hash-1"),
        lambda client: client.put_detector("pets", ["cat", "dog"], if_match=6),
        lambda client: client.set_threshold("pets", 0.5, if_match=6),
    ]
    for write in writes:
        service = FakeService(lost)
        with pytest.raises(error) as caught:
            write(connect(service))
        assert len(service.asked) == 1
        assert caught.value.sent


def test_a_create_that_found_no_server_is_tried_again(connect: Connect) -> None:
    service = FakeService(httpx.ConnectError("refused"))
    connect(service).create_detector("pets", ["cat", "dog"])
    assert len(service.asked) == 2


def test_scoring_is_repeated_after_a_lost_answer(connect: Connect) -> None:
    service = FakeService(httpx.ReadError("gone"))
    assert [r.score for r in connect(service).score("pets", [b"abc"])] == [3]
    assert [asked.images for asked in service.asked] == [[b"abc"]] * 2


def test_a_repeated_delete_that_finds_nothing_has_succeeded(connect: Connect) -> None:
    service = FakeService(busy(502), problem(404, "detector-not-found"))
    assert connect(service).delete_detector("pets") is None
    assert len(service.asked) == 2


def test_a_first_delete_that_finds_nothing_is_not_found(connect: Connect) -> None:
    with pytest.raises(NotFound):
        connect(FakeService(problem(404, "detector-not-found"))).delete_detector("pets")


def test_ready_asks_once(connect: Connect) -> None:
    assert connect(FakeService(httpx.Response(200, json={"status": "ok"}))).ready()
    starting = FakeService(busy())
    assert not connect(starting).ready()
    assert not connect(FakeService(httpx.ConnectError("refused"))).ready()
    assert len(starting.asked) == 1
