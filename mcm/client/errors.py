"""Errors of the client SDK, one class for each way in which a call can fail.

ClientError
+-- InvalidArgument (also mcm.errors.InvalidInput)      the call cannot be sent; no request was made
+-- ConnectionFailed                                    no answer came
|   +-- Timeout                                         not in time
+-- UnexpectedAnswer                                    an answer came that is not in the contract
+-- DefinitionChanged (also mcm.errors.DefinitionMismatch)   the detector was replaced during the work
+-- Uncalibrated (also mcm.errors.NotCalibrated)        p-values were asked for, and there are none
+-- ApiError                                            the server answered with an error
    +-- BadRequest 400          +-- Unauthorized 401        +-- Forbidden 403
    +-- NotFound 404            +-- RequestTimeout 408      +-- Conflict 409
    +-- PreconditionFailed 412  +-- TooLarge 413            +-- UnsupportedMedia 415
    +-- InvalidRequest 422      +-- Overloaded 429
    +-- ServerError 5xx
        +-- Unavailable 503     +-- DeadlineExceeded 504

Which error of a status it was, say a 409 for "not-calibrated" or for "name-taken", is in `ApiError.code`.
"""

from mcm import wire
from mcm.errors import ClientError, DefinitionMismatch, InvalidInput, NotCalibrated


class InvalidArgument(ClientError, InvalidInput):
    """The call cannot be sent as it is; no request was made."""


class ConnectionFailed(ClientError):
    """No answer came: the server is not there, or the connection broke.

    `sent` is False where the request surely never reached the server.
    """

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message, sent)
        self.sent = sent

    def __str__(self) -> str:
        return str(self.args[0])


class Timeout(ConnectionFailed):
    """No answer came in time."""


class UnexpectedAnswer(ClientError):
    """An answer that is not in the contract: another server, another version, or a proxy between."""


class DefinitionChanged(ClientError, DefinitionMismatch):
    """The detector was replaced while its scores were being collected."""


class Uncalibrated(ClientError, NotCalibrated):
    """The detector has no calibration scores, and so no p-values."""


class ApiError(ClientError):
    """The server answered with an error.

    `problem` is its RFC 9457 problem, `request_id` finds it in the server's log, and `retry_after` is
    the number of seconds that the server asked to be left alone for, where it did.
    """

    def __init__(
        self,
        problem: wire.Problem,
        status: int,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, status, request_id, retry_after)
        self.problem = problem
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """The stable name of what went wrong, e.g. "not-calibrated"."""
        return self.problem.code

    def __str__(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status} {self.code}: {self.problem.detail}{request}"


class BadRequest(ApiError):
    """400: the server could not parse the body."""


class Unauthorized(ApiError):
    """401: a key is needed, or this one is not known."""


class Forbidden(ApiError):
    """403: this key, host or origin may not do this."""


class NotFound(ApiError):
    """404: there is no such detector."""


class RequestTimeout(ApiError):
    """408: the body did not reach the server in time."""


class Conflict(ApiError):
    """409: a name that is taken, another encoder, or no threshold; see `code`."""


class PreconditionFailed(ApiError):
    """412: the detector has another revision than `if_match`."""


class TooLarge(ApiError):
    """413: larger than the server takes."""


class UnsupportedMedia(ApiError):
    """415: not an image that the server reads."""


class InvalidRequest(ApiError):
    """422: understood, and wrong."""


class Overloaded(ApiError):
    """429: too much work at once."""


class ServerError(ApiError):
    """5xx: the server failed."""


class Unavailable(ServerError):
    """503: the server is starting, stopping or has lost its store."""


class DeadlineExceeded(ServerError):
    """504: the server gave up in the middle."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: RequestTimeout,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
    504: DeadlineExceeded,
}


def error_class(status: int) -> type[ApiError]:
    """The class of an error status (400 and above)."""
    return BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
