"""The client SDK: a service spoken to in Python, waiting (Client) or with asyncio (AsyncClient).

    from mcm.client import Client

    with Client("http://127.0.0.1:8000", require_verdict=True) as client:
        client.create_detector("pets", ["cat", "dog", "rabbit"])
        client.calibrate("pets", paths_of_pets)
        for result in client.score("pets", paths):
            print(result.name, result.error or result.is_ood)

It needs neither torch nor a model. Errors are in `mcm.client.errors`, answers in `mcm.wire`.
"""

from mcm.client._discovery import core_calibration
from mcm.client.aio import AsyncClient
from mcm.client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    DefinitionChanged,
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
    Uncalibrated,
    UnexpectedAnswer,
    UnsupportedMedia,
)
from mcm.client.sync import Client
from mcm.errors import ClientError

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DefinitionChanged",
    "Forbidden",
    "InvalidArgument",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "PreconditionFailed",
    "RequestTimeout",
    "ServerError",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Uncalibrated",
    "UnexpectedAnswer",
    "UnsupportedMedia",
    "core_calibration",
]
