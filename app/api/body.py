"""Reading request bodies: JSON or multipart, within limits of bytes and time, into one shape."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import anyio.to_thread
from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from app.api.multipart import read_multipart
from app.api.upload import Upload
from app.errors import SlowBody, TooLarge, UnsupportedBody, invalid_request
from app.service import Service, service_of
from mcm import wire
from mcm.errors import BrokenImage

R = TypeVar("R", bound=wire.Request)
R_co = TypeVar("R_co", bound=wire.Request, covariant=True)
OFF_LOOP_BYTES = 256 * 1024  # a longer JSON body is parsed in a thread, so that the loop stays free


@dataclass(frozen=True)
class Body(Generic[R_co]):
    """A request body: the options and, where images are taken, the images."""

    options: R_co
    uploads: list[Upload] = field(default_factory=list)


def body_of(model: type[R]) -> Callable[[Request], AsyncGenerator[Body[R], None]]:
    """A dependency that reads `model` from a JSON or multipart body and counts its bytes as admitted."""
    takes_images = issubclass(model, wire.Images)
    is_long = takes_images or model is wire.DetectorFile

    async def read(request: Request) -> AsyncGenerator[Body[R], None]:
        service = service_of(request)
        settings = service.settings
        limit = settings.max_request_bytes if is_long else settings.max_json_bytes
        kind = content_type(request, takes_images)
        admission = service.engine.admission
        with admission.bytes(0) as hold:
            hold.expect(declared_length(request, limit))  # what does not fit is refused before it is sent
            if kind == "multipart":
                admission.images(0).expect(1)
            stream = limited(request, limit, hold.grow)
            async with body_deadline(settings.body_timeout):
                if kind == "multipart":
                    body = Body(*await read_multipart(request.headers, stream, model, settings))
                else:
                    raw = b"".join([chunk async for chunk in stream])
                    body = await in_thread_if_long(raw, lambda: parse_json(raw, model, service))
            if len(body.uploads) > settings.max_images:
                raise TooLarge(
                    f"{len(body.uploads)} images are more than the {settings.max_images} of a request"
                )
            yield body

    return read


def content_type(request: Request, takes_images: bool) -> str:
    """ "json" or "multipart".

    Raises:
        UnsupportedBody: anything else, or multipart where no images are taken; compressed, or not UTF-8.
    """
    check_plain(request.headers)
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == "application/json" or given.endswith("+json"):
        return "json"
    if given == "multipart/form-data" and takes_images:
        return "multipart"
    wanted = "application/json or multipart/form-data" if takes_images else "application/json"
    raise UnsupportedBody(f"the Content-Type is {given or 'missing'}; send {wanted}")


def check_plain(headers: Headers) -> None:
    """Refuse a body that is compressed, or text in an encoding other than UTF-8."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedBody(f"the Content-Encoding is {encoding!r}; send the body as it is, not compressed")
    _, parameters = parse_options_header(headers.get("content-type"))
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedBody(f"the charset is {charset!r}; send UTF-8")


def declared_length(request: Request, limit: int) -> int:
    """The Content-Length, 0 if there is none; refused at once when it is over the limit."""
    text = request.headers.get("content-length", "0")
    length = int(text) if text.isascii() and text.isdigit() else 0
    if length > limit:
        raise TooLarge(f"the body has {length} bytes, more than the {limit} of a request")
    return length


async def limited(request: Request, limit: int, grow: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body's chunks, each admitted as it comes; refuses to read beyond `limit`."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise TooLarge(f"the body is longer than the {limit} bytes of a request")
        grow(len(chunk))
        yield chunk


@asynccontextmanager
async def body_deadline(seconds: float) -> AsyncIterator[None]:
    """Ends reading a body that does not arrive in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {seconds:g} seconds") from None


async def in_thread_if_long(raw: bytes, parse: Callable[[], Body[R]]) -> Body[R]:
    """Parse here, or in a thread when it would hold up the event loop."""
    if len(raw) <= OFF_LOOP_BYTES:
        return parse()
    return await cast(Awaitable[Body[R]], anyio.to_thread.run_sync(parse))


def parse_json(raw: bytes, model: type[R], service: Service) -> Body[R]:
    """A JSON body as `model`, its images decoded from base64.

    Raises:
        UnparsableBody: not JSON.
        InvalidRequest: JSON, but not `model`.
        TooLarge: over the limit of a body that carries no images.
    """
    try:
        options = model.model_validate_json(raw, strict=True)  # true and "1" are no numbers
    except ValidationError as error:
        raise invalid_request(error) from None
    items = options.images if isinstance(options, wire.Images) else None
    if isinstance(options, wire.Images) and not items and len(raw) > service.settings.max_json_bytes:
        raise TooLarge(
            f"the body has {len(raw)} bytes, more than the {service.settings.max_json_bytes} of JSON"
        )
    uploads = [Upload(item.name, decode_base64(item.data)) for item in items or ()]
    return Body(options, uploads)


def decode_base64(text: str) -> bytes | BrokenImage:
    """Image bytes from base64 or a data: URI."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not (comma and head.endswith(";base64")):
            return BrokenImage("a data: URI must be base64, as in data:image/jpeg;base64,...")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return BrokenImage("`data` is not base64; encode the file's bytes, or send multipart/form-data")
