"""What a failed call raises, and what the error says."""

import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mcm.client import (
    ApiError,
    BadRequest,
    Client,
    ClientError,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Forbidden,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    RequestTimeout,
    ServerError,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnsupportedMedia,
)
from mcm.errors import McmError
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService, problem


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (408, RequestTimeout),
        (409, Conflict),
        (412, PreconditionFailed),
        (413, TooLarge),
        (415, UnsupportedMedia),
        (418, ApiError),
        (422, InvalidRequest),
        (429, Overloaded),
        (500, ServerError),
        (502, ServerError),
        (503, Unavailable),
        (504, DeadlineExceeded),
    ],
)
def test_each_status_has_its_class(connect: Connect, status: int, error: type[ApiError]) -> None:
    with pytest.raises(error) as caught:
        connect(FakeService(problem(status, "a-code")), max_retries=0).models()
    assert type(caught.value) is error
    assert isinstance(caught.value, ClientError)


def test_an_error_says_status_code_detail_and_request(connect: Connect) -> None:
    answer = problem(409, "not-calibrated", "calibrate it first", **{"X-Request-ID": "abc-1"})
    with pytest.raises(Conflict) as caught:
        connect(FakeService(answer)).detector("pets")
    assert str(caught.value) == "409 not-calibrated: calibrate it first (request abc-1)"
    assert caught.value.code == "not-calibrated"
    assert caught.value.request_id == "abc-1"
    assert caught.value.problem.title == "a title"


def test_an_error_keeps_the_extensions_of_its_problem(connect: Connect) -> None:
    body = {"type": "/problems/too-few-scores", "title": "t", "status": 422, "detail": "d", "needed": 19}
    with pytest.raises(InvalidRequest) as caught:
        connect(FakeService(httpx.Response(422, json=body))).detector("pets")
    assert caught.value.problem.model_extra == {"needed": 19}


@pytest.mark.parametrize(
    "body", [b"<html><h1>Bad gateway</h1></html>", b"", b'{"detail": "Not Found"}', b"[]", b"\xff\xfe\x00"]
)
def test_an_error_that_is_not_the_services_is_shown_as_it_came(connect: Connect, body: bytes) -> None:
    answer = httpx.Response(404, content=body, headers={"Content-Type": "text/html"})
    with pytest.raises(NotFound, match=r"GET /v1/models answered 404 with text/html") as caught:
        connect(FakeService(answer)).models()
    assert caught.value.code == "foreign-error"


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>hello</html>"},
        {"json": {"models": [{"name": "half"}]}},
        {"json": []},
        {},
        {"status_code": 302, "headers": {"Location": "http://elsewhere"}},
    ],
)
def test_an_answer_outside_the_contract_is_unexpected(connect: Connect, answer: dict[str, Any]) -> None:
    service = FakeService(httpx.Response(**{"status_code": 200} | answer))
    with pytest.raises(UnexpectedAnswer, match="GET /v1/models answered"):
        connect(service).models()


def test_an_answer_that_cannot_be_decoded_is_unexpected(connect: Connect) -> None:
    with pytest.raises(UnexpectedAnswer, match="cannot be decoded"):
        connect(FakeService(httpx.DecodingError("bad gzip"))).models()


@pytest.mark.parametrize(
    ("foreign", "error", "sent"),
    [
        (httpx.ConnectError("refused"), ConnectionFailed, False),
        (httpx.ConnectTimeout("slow"), Timeout, False),
        (httpx.PoolTimeout("full"), Timeout, False),
        (httpx.ReadTimeout("slow"), Timeout, True),
        (httpx.WriteTimeout("slow"), Timeout, True),
        (httpx.ReadError("reset"), ConnectionFailed, True),
        (httpx.WriteError("reset"), ConnectionFailed, True),
        (httpx.RemoteProtocolError("gone"), ConnectionFailed, True),
    ],
)
def test_an_error_of_the_connection_is_translated_and_keeps_its_cause(
    connect: Connect, foreign: Exception, error: type[ConnectionFailed], sent: bool
) -> None:
    with pytest.raises(error, match=r"http://127.0.0.1:8000.* GET /v1/models") as caught:
        connect(FakeService(foreign), max_retries=0).models()
    assert caught.value.__cause__ is foreign
    assert caught.value.sent is sent


def test_errors_survive_a_trip_to_another_process() -> None:
    with (
        pytest.raises(Conflict) as caught,
        Client(transport=httpx.MockTransport(FakeService(problem(409, "a")))) as c,
    ):
        c.models()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.status, copy.code) == (str(caught.value), 409, "a")
    lost = pickle.loads(pickle.dumps(Timeout("late", True)))
    assert (str(lost), lost.sent) == ("late", True)


@pytest.mark.parametrize("name", ["", "Pets", "..", "a/b", "a b", "é", "x" * 65, "pets\n"])
def test_a_name_that_no_detector_can_have_is_refused_before_it_is_sent(connect: Connect, name: str) -> None:
    service = FakeService()
    client = connect(service)
    for call in (client.detector, client.delete_detector, client.export_detector, client.calibration):
        with pytest.raises(InvalidArgument, match="no name of a detector"):
            call(name)
    with pytest.raises(InvalidArgument):
        client.score(name, [b"x"])
    assert service.asked == []


def test_arguments_outside_the_contract_are_refused_before_they_are_sent(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    refused: list[Callable[[], object]] = [
        lambda: client.create_detector("Bad Name", ["cat"]),
        lambda: client.create_detector("pets", []),
        lambda: client.create_detector("pets", "cat"),
        lambda: client.create_detector("pets", None),
        lambda: client.create_detector("pets", ["ca\udc80t"]),
        lambda: client.create_detector("pets", {"cat": "a photo"}),
        lambda: client.create_detector("pets", ["cat"], score="best"),
        lambda: client.create_detector("pets", ["cat"], temperature=float("nan")),
        lambda: client.put_detector("pets", ["cat"], templates=[]),
        lambda: client.set_threshold("pets", float("nan")),
        lambda: client.score("pets", "cat.jpg"),
        lambda: client.score("pets", b"bytes"),
        lambda: client.score("pets", 7),
        lambda: client.score("pets", [b"x"], top_k=-1),
        lambda: client.score_with([], [b"x"]),
        lambda: client.score_with("pets", [b"x"]),
        lambda: client.calibrate("pets"),
        lambda: client.calibrate("pets", [b"x"], scores=[1.0], definition_hash="h"),
        lambda: client.calibrate("pets", [b"x"], definition_hash="h"),
        lambda: client.calibrate("pets", scores=[1.0]),
        lambda: client.calibrate("pets", [b"x"], false_alarm_rate=1.0),
        lambda: client.calibrate("pets", [b"x"], method="guess"),
        lambda: client.calibrate("pets", []),
        lambda: client.embed_texts("one text"),
        lambda: client.embed_texts([1]),
        lambda: client.embed_texts(["\udc80"]),
        lambda: client.score_once([b"x"], concepts=["\udc80"]),
        lambda: list(client.score_embeddings("pets", [[1.0, float("nan")]], "fake-1")),
        lambda: list(client.score_embeddings("pets", [["one"]], "fake-1")),
    ]
    for call in refused:
        with pytest.raises(InvalidArgument):
            call()
    assert service.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "127.0.0.1:8000"},
        {"base_url": "localhost:8000"},
        {"base_url": ""},
        {"base_url": "ftp://host"},
        {"base_url": "http://"},
        {"base_url": "http://host:port"},
        {"api_key": "key\n"},
        {"api_key": "two words"},
        {"api_key": "clé"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"max_retries": -1},
        {"max_in_flight": 0},
    ],
)
def test_a_client_that_cannot_work_is_refused_when_it_is_made(
    connect: Connect, arguments: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        connect(**arguments)
    assert isinstance(caught.value, McmError)
    assert isinstance(caught.value, ValueError)
    assert "clé" not in str(caught.value), "a key must not be shown"
