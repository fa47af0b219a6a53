"""Images as a caller has them -> named bytes to send. What cannot be read becomes an error in its place."""

import contextlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from PIL import Image, ImageOps

from mcm import wire
from mcm.client.errors import InvalidArgument


class BinaryFile(Protocol):
    """A file opened in binary mode, or anything that is read like one."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; none at the end."""


ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image
NamedImage: TypeAlias = ImageInput | tuple[str | None, ImageInput]

MAX_FILE_BYTES = 256 * 2**20  # no server takes as much; an endless file must not fill the memory
READ_BYTES = 2**20

PNG_MODES = frozenset({"1", "L", "LA", "P", "I;16", "RGB", "RGBA"})
AS_PNG_MODE = {
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
    "I": "I;16",
    "I;16L": "I;16",
    "I;16B": "I;16",
    "I;16N": "I;16",
}


@dataclass(frozen=True)
class Item:
    """One thing to send: its name and bytes, or why there are none."""

    name: str | None
    data: bytes = b""
    problem: wire.Problem | None = None


def require_many(images: object, kinds: type | tuple[type, ...] = Iterable) -> None:
    """Refuse a single image where an iterable of images is due: a path would be walked by its letters.

    Raises:
        InvalidArgument: `images` is one image, or nothing that can be iterated.
    """
    single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    if single or hasattr(images, "read"):
        raise InvalidArgument(
            f"images must be an iterable of images, not one {type(images).__name__}: use [image]"
        )
    if not isinstance(images, kinds):
        raise InvalidArgument(f"images must be an iterable of images, not {type(images).__name__}")


def load(image: object) -> Item:
    """Read one image: a path, bytes, a binary file, a PIL image, or a tuple (name, one of these).

    Never raises for the image: one that cannot be read must not end the work on its neighbours.
    """
    if isinstance(image, tuple) and len(image) == 2:
        name, image = image
    else:
        name = _own_name(image)
    name = None if name is None else _sayable(str(name))
    try:
        return Item(name, _read(image))
    except Exception as error:  # a caller's file object may raise anything
        return Item(name, problem=_unreadable(name, error))


def _own_name(image: object) -> str | None:
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    name = None if isinstance(image, Image.Image) else getattr(image, "name", None)
    return name if isinstance(name, str) else None  # an unnamed temporary file has a number here


def _sayable(name: str) -> str:
    """The name with bytes that are not UTF-8 written out, since JSON cannot carry them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(image: Any) -> bytes:
    if isinstance(image, str | os.PathLike):
        with open(image, "rb") as file:
            return _read_all(file)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image):
        return _png(image)
    if hasattr(image, "read"):
        return _read_all(image)
    raise TypeError(
        f"{type(image).__name__} is not an image: give a path, bytes, a binary file or a PIL image"
    )


def _read_all(file: Any) -> bytes:
    """The rest of a binary file, which may give less than it is asked for at a time."""
    parts = []
    size = 0
    while part := file.read(READ_BYTES):
        if not isinstance(part, bytes):
            raise TypeError('the file gives text; open it in binary mode ("rb")')
        parts.append(part)
        size += len(part)
        if size > MAX_FILE_BYTES:
            raise ValueError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    return b"".join(parts)


def _png(image: Image.Image) -> bytes:
    """A PIL image as PNG: upright, its alpha kept."""
    with contextlib.suppress(SyntaxError, ValueError, KeyError, TypeError):  # damaged EXIF turns nothing
        image = ImageOps.exif_transpose(image)
    if image.mode in AS_PNG_MODE:
        image = image.convert(AS_PNG_MODE[image.mode])
    if image.mode not in PNG_MODES:
        raise ValueError(f"a PIL image of mode {image.mode} cannot be sent: convert it to RGB first")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _unreadable(name: str | None, error: Exception) -> wire.Problem:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return wire.Problem(
        type="/problems/unreadable-file",
        title="The file cannot be read",
        status=422,
        detail=f"cannot read {'the image' if name is None else repr(name)}: {reason or type(error).__name__}",
    )
