"""Reading multipart bodies: files in the field `images`, everything else as the fields of a model."""

from collections.abc import AsyncGenerator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.upload import Upload
from app.errors import InvalidRequest, RequestError, TooLarge, UnparsableBody, invalid_request
from app.settings import Settings
from mcm import wire

R = TypeVar("R", bound=wire.Request)
JSON_ARRAY = TypeAdapter(list[Any])
MAX_FIELDS = 20_000


class MemoryMultiPartParser(MultiPartParser):
    """Keeps files in memory: the request is bounded, and no disk is needed or waited for.

    `complete` tells whether the last boundary came: a body cut short would lose its last part in silence.
    """

    spool_max_size = 2**40
    complete = False

    def on_end(self) -> None:
        """The last boundary has come."""
        self.complete = True


async def read_multipart(
    headers: Headers, stream: AsyncGenerator[bytes, None], model: type[R], settings: Settings
) -> tuple[R, list[Upload]]:
    """A multipart body: files in the field `images`, everything else as fields of `model`.

    Raises:
        UnparsableBody: not multipart.
        InvalidRequest: wrong fields, or values that are not `model`'s.
    """
    parser = MemoryMultiPartParser(
        headers,
        stream,
        max_files=settings.max_images + 1,  # one more, so that the reader can say how many are allowed
        max_fields=MAX_FIELDS,
        max_part_size=settings.max_json_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise multipart_error(error.message, settings) from error
    if not parser.complete:
        raise UnparsableBody("the multipart body ends before its last boundary; send it whole")
    uploads = [await read_upload(value) for value in files_of(form)]
    try:
        return model.model_validate(fields_of(form, model)), uploads
    except ValidationError as error:
        raise invalid_request(error) from None


def multipart_error(message: str, settings: Settings) -> RequestError:
    """The parser's complaint as a request error, in our words."""
    if message.startswith("Too many files"):
        return TooLarge(f"more than {settings.max_images} images in one request")
    if message.startswith("Too many fields"):
        return TooLarge(f"more than {MAX_FIELDS} fields in one request")
    if message.startswith("Part exceeded"):
        return TooLarge(f"a field has more than {settings.max_json_bytes} bytes")
    return UnparsableBody(
        "the multipart body cannot be parsed: each part must follow the boundary that the Content-Type "
        "names, and have a Content-Disposition with a name"
    )


def files_of(form: FormData) -> list[UploadFile]:
    """The files of the field `images`.

    Raises:
        InvalidRequest: a file in another field, or a text in this one; names the field.
    """
    files = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name != "images":
            raise InvalidRequest(f"the file {value.filename!r} is in the field {name!r}; send it in 'images'")
        if isinstance(value, str) and name == "images":
            raise InvalidRequest(
                "the field 'images' must be a file: give it a filename (curl: -F images=@PATH, with @)"
            )
        if isinstance(value, UploadFile):
            files.append(value)
    return files


async def read_upload(file: UploadFile) -> Upload:
    """A file part's name and bytes."""
    data = await file.read()
    await file.close()
    return Upload(file.filename or None, data)


def fields_of(form: FormData, model: type[wire.Request]) -> dict[str, Any]:
    """The text fields by name; lists are repeated fields, or one field that holds a JSON array."""
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(key for key in form if key != "images"):
        values = form.getlist(name)
        if is_list(model, name):
            fields[name] = list_value(name, [str(v) for v in values])
        elif len(values) > 1:
            raise InvalidRequest(f"the field {name!r} is given {len(values)} times; give it once")
        else:
            fields[name] = values[0]
    return fields


def is_list(model: type[wire.Request], name: str) -> bool:
    """Whether the field `name` of `model` holds a list."""
    info = model.model_fields.get(name)
    kinds = (info.annotation, *get_args(info.annotation)) if info else ()
    return any(get_origin(kind) is list for kind in kinds)


def list_value(name: str, values: list[str]) -> list[Any]:
    """The list that repeated fields, or one JSON array, say."""
    if len(values) == 1 and values[0].lstrip().startswith("["):
        try:
            return JSON_ARRAY.validate_json(values[0])
        except ValidationError:
            raise InvalidRequest(f"the field {name!r} starts like a JSON array and is none") from None
    return list(values)
