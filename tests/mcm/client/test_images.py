"""Every form in which a caller may have an image, and those that cannot be read."""

import io
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcm.client import Client
from mcm.client._images import MAX_FILE_BYTES, load
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService


def sent_as(connect: Connect, image: object) -> tuple[str | None, bytes]:
    """The name in the result, and the bytes that the service got."""
    service = FakeService()
    (result,) = connect(service).score("pets", [image])
    assert result.error is None
    return result.name, service.asked[0].images[0]


def refused(connect: Connect, image: object) -> tuple[str | None, str]:
    """The name in the result, and why nothing was sent."""
    service = FakeService()
    (result,) = connect(service).score("pets", [image])
    assert service.asked == []
    assert result.index == 0
    assert result.score is None
    assert result.error.code == "unreadable-file"
    assert result.error.status == 422
    return result.name, result.error.detail


def test_paths_are_read_and_named_as_given(
    connect: Connect, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    assert sent_as(connect, path) == (str(path), b"abc")
    assert sent_as(connect, "cat.jpg") == ("cat.jpg", b"abc")
    assert sent_as(connect, "./cat.jpg") == ("./cat.jpg", b"abc")


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_have_no_name(connect: Connect, form: Callable[[bytes], object]) -> None:
    assert sent_as(connect, form(b"abc")) == (None, b"abc")


def test_files_are_read_from_where_they_are_and_named_by_their_name(
    connect: Connect, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"abc" * 2**20)
    with path.open("rb") as file:
        assert sent_as(connect, file) == (str(path), b"abc" * 2**20)
    with path.open("rb", buffering=0) as file:
        file.seek(3)
        assert sent_as(connect, file) == (str(path), b"abc" * (2**20 - 1))
    with tempfile.TemporaryFile() as file:
        assert sent_as(connect, file) == (None, b"")


def test_a_pair_gives_an_image_its_name(connect: Connect) -> None:
    assert sent_as(connect, ("my cat", b"abc")) == ("my cat", b"abc")
    assert sent_as(connect, (None, b"abc")) == (None, b"abc")
    assert sent_as(connect, ("", b"abc")) == ("", b"abc")
    assert sent_as(connect, (pathlib.PurePosixPath("a/b"), b"abc")) == ("a/b", b"abc")


@pytest.mark.parametrize(
    "name",
    [
        'say "cheese".jpg',
        "two\nlines.jpg",
        "a\r\nb: c.jpg",
        "猫 🐈.jpg",
        "back\\slash",
        "x" * 5000,
        " ",
        "\x00",
        "%22",
        ";",
    ],
)
def test_any_name_reaches_the_result_as_given_and_harms_no_request(connect: Connect, name: str) -> None:
    service = FakeService()
    results = list(connect(service).score("pets", [(name, b"abc"), ("next", b"de")]))
    assert [(r.name, r.score) for r in results] == [(name, 3), ("next", 2)]
    assert len(service.asked[0].names[0]) < 1000


def test_a_name_that_is_not_utf_8_is_written_out(connect: Connect, tmp_path: pathlib.Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    pathlib.Path(os.fsdecode(path)).write_bytes(b"abc")
    service = FakeService()
    (result,) = connect(service).score("pets", [os.fsdecode(path)])
    assert result.name == f"{tmp_path}/caf\\udce9.jpg"
    assert json.loads(result.model_dump_json())["score"] == 3


@given(st.text(st.characters(exclude_categories=[])), st.binary(max_size=20))
def test_hypothesis_any_name_and_bytes_survive(name: str, data: bytes) -> None:
    service = FakeService()
    with Client(transport=httpx.MockTransport(service)) as client:
        (result,) = client.score("pets", [(name, data)])
    assert result.name == name.encode("utf-8", "backslashreplace").decode()
    assert service.asked[0].images == [data]
    result.model_dump_json()


def decoded(connect: Connect, image: Image.Image) -> Image.Image:
    name, data = sent_as(connect, image)
    assert name is None
    png = Image.open(io.BytesIO(data))
    assert png.format == "PNG"
    png.load()
    return png


@pytest.mark.parametrize(
    ("mode", "colour", "sent_mode", "pixel"),
    [
        ("RGB", (1, 2, 3), "RGB", (1, 2, 3)),
        ("RGBA", (1, 2, 3, 4), "RGBA", (1, 2, 3, 4)),
        ("RGBa", (1, 2, 3, 255), "RGBA", (1, 2, 3, 255)),
        ("L", 7, "L", 7),
        ("LA", (7, 8), "LA", (7, 8)),
        ("1", 1, "1", 255),
        ("I;16", 40_000, "I;16", 40_000),
        ("I", 40_000, "I;16", 40_000),
        ("CMYK", (0, 0, 0, 0), "RGB", (255, 255, 255)),
        ("YCbCr", (255, 128, 128), "RGB", (255, 255, 255)),
        ("HSV", (0, 0, 255), "RGB", (255, 255, 255)),
    ],
)
def test_pil_images_travel_as_png(
    connect: Connect, mode: str, colour: Any, sent_mode: str, pixel: object
) -> None:
    png = decoded(connect, Image.new(mode, (3, 2), colour))
    assert (png.mode, png.size, png.getpixel((0, 0))) == (sent_mode, (3, 2), pixel)


def test_a_palette_keeps_its_transparency(connect: Connect) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    file = io.BytesIO()
    image.quantize(4).save(file, "PNG")
    png = decoded(connect, Image.open(io.BytesIO(file.getvalue()))).convert("RGBA")
    assert [png.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0, 255), (0, 0, 0, 0)]


def test_a_pil_image_is_sent_upright_and_stays_as_it_was(connect: Connect) -> None:
    lying = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    lying.save(file, "JPEG", exif=exif)
    image = Image.open(io.BytesIO(file.getvalue()))
    png = decoded(connect, image)
    assert png.size == (2, 4)
    assert png.getexif().get(0x0112, 1) == 1
    assert image.size == (4, 2)


def test_damaged_exif_does_not_stop_a_pil_image(connect: Connect) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 2)).save(file, "JPEG", exif=b"Exif\0\0not a TIFF header at all")
    assert decoded(connect, Image.open(io.BytesIO(file.getvalue()))).size == (4, 2)


def test_a_missing_file_is_an_error_that_names_it(connect: Connect, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gone.jpg"
    assert refused(connect, path) == (str(path), f"cannot read {str(path)!r}: No such file or directory")


class Broken(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise RuntimeError("the disk is on fire")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("/", "Is a directory"),
        ("nul\0byte", "null byte"),
        (Broken(), "the disk is on fire"),
        (Image.new("F", (2, 2)), "mode F"),
        (None, "NoneType is not an image"),
        (7, "int is not an image"),
        ([1, 2], "list is not an image"),
        (("name", None), "NoneType is not an image"),
    ],
)
def test_what_cannot_be_read_is_an_error_in_its_place(connect: Connect, image: object, reason: str) -> None:
    assert reason in refused(connect, image)[1]


def test_a_file_that_is_closed_or_gives_text_is_an_error_in_its_place(connect: Connect) -> None:
    file = io.BytesIO(b"abc")
    file.close()
    assert "closed file" in refused(connect, file)[1]
    assert "binary mode" in refused(connect, io.StringIO("text"))[1]


def test_a_pil_image_that_cannot_be_decoded_is_an_error_in_its_place(connect: Connect) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    image = Image.open(io.BytesIO(file.getvalue()[:600]))
    assert "truncated" in refused(connect, image)[1]


def test_an_endless_file_is_not_read_to_the_end(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 2**30)
    item = load(path)
    assert item.problem is not None
    assert "larger than 256 MiB" in item.problem.detail
