"""What a request is made of: a `Call` as data, its path, fields and files, checked by the contract."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from mcm import wire
from mcm.client._images import Item
from mcm.client.errors import InvalidArgument

A = TypeVar("A")
M = TypeVar("M", bound=BaseModel)

Concepts: TypeAlias = Sequence[str | wire.ConceptSpec] | Mapping[str, Sequence[str]]

ENCODING_TIMEOUT_S = 900.0  # a detector of 10,000 concepts takes minutes to encode
FILENAME_CHARS = 200  # servers bound the length of a part's headers

DETECTOR_NAME: TypeAdapter[str] = TypeAdapter(wire.DetectorName)


@dataclass(frozen=True)
class Call(Generic[A]):
    """One request and how its answer is read.

    `repeatable`: doing it twice is doing it once. `encodes`: the server encodes prompts, which takes long.
    """

    method: str
    path: str
    read: Callable[[bytes], A]
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, tuple[str, bytes, str]]] = field(default_factory=list)
    repeatable: bool = True
    encodes: bool = False


def build(http: httpx.Client | httpx.AsyncClient, call: Call[A]) -> httpx.Request:
    """The call as an httpx request of `http`, with its base URL, headers and timeout."""
    timeout = http.timeout
    if call.encodes and timeout.read is not None:
        timeout = httpx.Timeout(**timeout.as_dict() | {"read": max(timeout.read, ENCODING_TIMEOUT_S)})
    headers = dict(call.headers)
    if call.content is not None:
        headers["Content-Type"] = "application/json"
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=headers,
        content=call.content,
        data=call.fields or None,
        files=call.files or None,
        timeout=timeout,
    )


def checked(model: type[M], **values: object) -> M:
    """`model` of the values that are not None.

    Raises:
        InvalidArgument: the contract does not allow them.
    """
    try:
        valid = model(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise InvalidArgument(explained(error)) from error
    json_body(valid)
    return valid


def explained(error: ValidationError) -> str:
    """A validation error in one line: at most three places and what is wrong there."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in found[:3])
    return told if len(found) <= 3 else f"{told}; and {len(found) - 3} more"


def detector_path(name: str, part: str = "") -> str:
    """The path of a detector or of a part of it.

    Raises:
        InvalidArgument: no detector can have this name.
    """
    try:
        DETECTOR_NAME.validate_python(name)
    except ValidationError as error:
        raise InvalidArgument(f"{name!r} is no name of a detector: {explained(error)}") from error
    return f"/v1/detectors/{quote(name, safe='')}{part}"


def write(
    method: str,
    path: str,
    read: Callable[[bytes], A],
    content: bytes | None,
    if_match: int | None,
    encodes: bool = False,
) -> Call[A]:
    """A PUT or DELETE. With `if_match` it is not repeatable: the second would meet the first's revision."""
    headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
    return Call(
        method, path, read, headers=headers, content=content, repeatable=if_match is None, encodes=encodes
    )


def upload(
    path: str,
    read: Callable[[bytes], A],
    options: BaseModel,
    items: Sequence[Item],
    encodes: bool = False,
) -> Call[A]:
    """A multipart POST of images with options."""
    fields = {name: _field(value) for name, value in set_values(options).items()}
    files = [
        ("images", (_filename(item, place), item.data, "application/octet-stream"))
        for place, item in enumerate(items)
    ]
    return Call("POST", path, read, fields=fields, files=files, encodes=encodes)


def _filename(item: Item, place: int) -> str:
    """What the server calls the image in its answers: a part without a file name would be no file."""
    printable = "".join(c if c.isprintable() else "?" for c in item.name or "")
    return printable[-FILENAME_CHARS:].strip() or f"image-{place}"


def _field(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


def set_values(model: BaseModel) -> dict[str, Any]:
    """The options that were given, as JSON values; the server knows the defaults."""
    return model.model_dump(mode="json", exclude_unset=True)


def json_body(model: BaseModel, *, exclude_unset: bool = True) -> bytes:
    """A JSON body.

    Raises:
        InvalidArgument: a text with half a character (a lone surrogate): Python allows it, JSON does not.
    """
    try:
        return model.model_dump_json(exclude_unset=exclude_unset).encode()
    except PydanticSerializationError as error:
        raise InvalidArgument(f"a text cannot be written as UTF-8: {error}") from error


def listed(concepts: Concepts) -> list[object]:
    """The concepts as the wire's list.

    Raises:
        InvalidArgument: one string, which is a sequence of letters, or nothing like concepts.
    """
    if isinstance(concepts, Mapping):
        return [{"name": name, "prompts": _texts(name, prompts)} for name, prompts in concepts.items()]
    if isinstance(concepts, str | bytes):
        raise InvalidArgument("concepts must be a list of names, not one string: use [name]")
    try:
        return list(concepts)
    except TypeError as error:
        raise InvalidArgument(f"concepts must be a list of names, not {type(concepts).__name__}") from error


def _texts(name: str, prompts: Sequence[str]) -> Sequence[str]:
    if isinstance(prompts, str):
        raise InvalidArgument(
            f"the prompts of {name!r} must be a list of texts, not one string: use [prompt]"
        )
    return prompts


def nothing(content: bytes) -> None:
    """The answer that says nothing."""
