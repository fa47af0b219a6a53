"""Errors of the service, and the one table that gives every error its status."""

from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from app.engine.errors import (
    DeadlineExceeded,
    Draining,
    EngineError,
    LargerThanAdmission,
    Overloaded,
    Starting,
)
from app.store import (
    DetectorNotFound,
    NameTaken,
    RevisionMismatch,
    StoreUnavailable,
    TooManyDetectors,
)
from mcm import errors as core
from mcm.wire import Problem


class RequestError(core.McmError):
    """A request that cannot be served as it is. `extensions` are further members of the problem."""

    def __init__(self, message: str, **extensions: Any) -> None:
        super().__init__(message)
        self.extensions = extensions


class UnparsableBody(RequestError):
    """The body is not the JSON or multipart that it says it is."""


class UnparsableHead(RequestError):
    """What came is not HTTP."""


class HeadTooLarge(RequestError):
    """The head of the request is over the limit of bytes."""


class SlowHead(RequestError):
    """The head of the request did not arrive in time."""


class InvalidRequest(RequestError):
    """The body was parsed, and something in it is wrong."""


class TooLarge(RequestError):
    """The request is over a limit of bytes, images or embeddings."""


class UnsupportedBody(RequestError):
    """The Content-Type is neither JSON nor multipart/form-data."""


class SlowBody(RequestError):
    """The body did not arrive in time."""


class Unauthorized(RequestError):
    """A key is needed."""


class Forbidden(RequestError):
    """This caller may not do this."""


class ForbiddenHost(Forbidden):
    """The Host header names another host."""


class ForbiddenOrigin(Forbidden):
    """A web page of another origin tries to write."""


class RateLimited(RequestError):
    """The caller's own share of requests is used up; the next one comes in `retry_after_s`."""

    def __init__(self, per_minute: int, retry_after_s: int) -> None:
        super().__init__(
            f"more than {per_minute} requests a minute, which is your limit; try again in {retry_after_s} s"
        )
        self.retry_after_s = retry_after_s


class NotFound(RequestError):
    """There is no such route or thing."""


class PreconditionFailed(RequestError):
    """The If-Match header names another revision, or a detector that is not there."""


class DriftOff(RequestError):
    """Drift is not watched."""


class MethodNotAllowed(RequestError):
    """The route exists, this method does not."""


# The most specific class of an error decides; every subclass of McmError has an ancestor here.
PROBLEMS: dict[type[Exception], tuple[int, str, str]] = {
    UnparsableBody: (400, "unparsable-body", "The body cannot be parsed"),
    UnparsableHead: (400, "unparsable-head", "The request is not HTTP"),
    Unauthorized: (401, "unauthorized", "A valid key is needed"),
    Forbidden: (403, "forbidden", "Not allowed"),
    ForbiddenHost: (403, "forbidden-host", "Unknown host name"),
    ForbiddenOrigin: (403, "forbidden-origin", "Foreign origin"),
    NotFound: (404, "not-found", "Not found"),
    DetectorNotFound: (404, "detector-not-found", "No such detector"),
    MethodNotAllowed: (405, "method-not-allowed", "Method not allowed"),
    SlowHead: (408, "slow-head", "The head did not arrive in time"),
    SlowBody: (408, "slow-body", "The body did not arrive in time"),
    NameTaken: (409, "name-taken", "The name is taken"),
    TooManyDetectors: (409, "too-many-detectors", "The store is full"),
    core.NotCalibrated: (409, "not-calibrated", "No threshold"),
    DriftOff: (409, "drift-off", "Drift is not watched"),
    core.EncoderMismatch: (409, "encoder-mismatch", "Made by another encoder"),
    core.DefinitionMismatch: (409, "definition-mismatch", "Made under another definition"),
    core.Mismatch: (409, "mismatch", "Not comparable"),
    PreconditionFailed: (412, "revision-mismatch", "The detector has changed"),
    RevisionMismatch: (412, "revision-mismatch", "The detector has changed"),
    TooLarge: (413, "too-large", "Too large"),
    core.ImageTooLarge: (413, "image-too-large", "The image is too large"),
    LargerThanAdmission: (413, "larger-than-admission", "Larger than the service takes at once"),
    UnsupportedBody: (415, "unsupported-body", "Unsupported Content-Type"),
    core.UnsupportedImage: (415, "unsupported-image", "Not an image that is read here"),
    core.InvalidInput: (422, "invalid-request", "The request is invalid"),
    InvalidRequest: (422, "invalid-request", "The request is invalid"),
    core.InvalidDefinition: (422, "invalid-definition", "The definition is invalid"),
    core.InvalidEmbeddings: (422, "invalid-embeddings", "The embeddings are invalid"),
    core.NoPatches: (422, "no-patches", "The encoder gives no patches"),
    core.BrokenImage: (422, "broken-image", "The image cannot be decoded"),
    core.TooFewScores: (422, "too-few-scores", "Too few images for this promise"),
    core.InvalidDetectorFile: (422, "invalid-detector-file", "The detector file is invalid"),
    HeadTooLarge: (431, "head-too-large", "The head is too large"),
    Overloaded: (429, "overloaded", "Overloaded"),
    RateLimited: (429, "rate-limited", "Too many requests"),
    Starting: (503, "starting", "Starting"),
    Draining: (503, "draining", "Stopping"),
    StoreUnavailable: (503, "store-unavailable", "The store cannot be reached"),
    core.EncoderError: (503, "encoder-failed", "The encoder failed"),
    EngineError: (503, "engine-failed", "The engine failed"),
    DeadlineExceeded: (504, "deadline-exceeded", "Out of time"),
    Exception: (500, "internal-error", "Internal error"),
}
# What a library says, or a bug, is for the log: in these problems a caller reads our own words only.
OWN_WORDS: dict[type[Exception], str] = {
    core.EncoderError: "the encoder failed on this; try again, and if it stays so, see the service's log",
    Exception: "Something went wrong in the service; report it with the request id in `instance`.",
}


def problem_of(error: Exception, request_id: str | None) -> Problem:
    """The RFC 9457 problem that says `error` to a caller; the unforeseen says nothing of the inside."""
    known = next(cls for cls in type(error).__mro__ if cls in PROBLEMS)
    status, code, title = PROBLEMS[known]
    return Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        detail=OWN_WORDS.get(known) or str(error),
        instance=request_id,
        **_extensions(error),
    )


def headers_of(error: Exception) -> dict[str, str]:
    """Headers that the status asks for."""
    if isinstance(error, Overloaded | RateLimited):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, Starting | Draining | StoreUnavailable):
        return {"Retry-After": "5"}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, SlowBody):
        return {"Connection": "close"}
    return {}


def invalid_request(error: ValidationError) -> RequestError:
    """A validation error as a request error that names the fields; malformed JSON is unparsable."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return UnparsableBody(f"the body is not valid JSON: {found[0]['msg']}")
    errors = [
        {"field": ".".join(map(str, e["loc"])), "message": e["msg"].removeprefix("Value error, ")}
        for e in found[:20]
    ]
    told = "; ".join(f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors[:3])
    return InvalidRequest(told, errors=errors)


def http_error(status: int) -> RequestError:
    """An error of the web framework (no route, wrong method ...) as one of ours."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("there is no such route; /docs lists them")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed("this route has other methods; see the Allow header and /docs")
    return UnparsableBody("the request cannot be parsed")


def _extensions(error: Exception) -> dict[str, Any]:
    if isinstance(error, core.TooFewScores):
        return {"needed": error.needed}
    return error.extensions if isinstance(error, RequestError) else {}
