"""The image formats that are decoded are a setting: a smaller surface for hostile files."""

import socket
from pathlib import Path

import httpx
import pytest

from mcm.errors import UnsupportedImage
from mcm.image_formats import READ_FORMATS
from mcm.images import ImageLimits, load_image
from tests.calls import RED, files
from tests.pictures import encode, noise
from tests.problems import assert_problem, assert_problem_body
from tests.server import running

KINDS = ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF"]


def picture(kind: str) -> bytes:
    return encode(noise().quantize(256) if kind == "GIF" else noise(), kind.upper())


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_left_out_is_refused_before_decoding_and_says_so(kind: str) -> None:
    others = tuple(name for name in READ_FORMATS if name != kind)
    assert load_image(picture(kind), ImageLimits(formats=(kind,))).mode == "RGB"
    for data in (picture(kind), picture(kind)[:20]):
        with pytest.raises(UnsupportedImage, match=f"{kind} images are switched off here") as caught:
            load_image(data, ImageLimits(formats=others))
        assert f" {kind}," not in str(caught.value).partition(";")[2]


def test_what_is_read_nowhere_is_told_from_what_is_switched_off() -> None:
    with pytest.raises(UnsupportedImage, match=r"PDF files are not read; send one of JPEG$"):
        load_image(b"%PDF-1.7", ImageLimits(formats=("JPEG",)))


def test_the_service_answers_415_for_a_format_switched_off_and_serves_the_others(tmp_path: Path) -> None:
    with (
        running(tmp_path, image_formats="png, jpeg") as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        concepts = {"concepts": ["red", "green"]}
        response = http.post("/v1/score", files=files(picture("TIFF")), data=concepts)
        problem = assert_problem(response, 415, "unsupported-image")
        assert "TIFF images are switched off here" in problem["detail"]
        assert "send one of PNG, JPEG" in problem["detail"]
        mixed = http.post("/v1/score", files=files(RED, picture("WebP")), data=concepts).json()["results"]
    assert mixed[0]["concept"] == "red"
    assert_problem_body(mixed[1]["error"])
    assert mixed[1]["error"]["status"] == 415


def test_no_url_is_ever_fetched(http: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
        for data in (url, f"data:{url}", "file:///etc/hostname", "/etc/hostname"):
            body = {"images": [{"data": data}], "concepts": ["red", "green"]}
            assert_problem(http.post("/v1/score", json=body), 422, "broken-image")
        for content in (url.encode(), svg.encode()):
            response = http.post("/v1/score", files=files(content), data={"concepts": [url, "green"]})
            assert_problem(response, 415, "unsupported-image")
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            elsewhere.accept()
