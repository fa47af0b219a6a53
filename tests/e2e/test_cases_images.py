"""CASES.md, the rows on images and concepts, through the real server with a real CLIP architecture."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.calls import as_json, connected, create, files
from tests.pictures import (
    GOOD,
    NOT_IMAGES,
    bomb_gif,
    bomb_png,
    bomb_tiff_tile,
    bomb_webp,
    encode,
    grey16_png,
    just_over,
    noise,
    plain,
    scene,
    truncated,
    turned,
)
from tests.problems import assert_problem, assert_problem_body
from tests.server import SERVICE, Server, running

CONCEPTS = ["cat", "dog", "red square", "blue sky"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as it is started, with an untrained ViT-B-32."""
    spec = "ViT-B-32-quickgelu/random:0"
    with running(
        tmp_path_factory.mktemp("cases"), SERVICE, encoder=spec, device="cpu", max_image_pixels=2_000_000
    ) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        yield http
        after = http.post("/v1/score", files=files(encode(scene(), "PNG")), data={"concepts": CONCEPTS})
        assert after.status_code == 200


def results(http: httpx.Client, *contents: bytes) -> Any:
    response = http.post(
        "/v1/score", files=files(*contents), data={"concepts": CONCEPTS, "score": "max-logit"}
    )
    assert response.status_code == 200, response.text
    return response.json()["results"]


def embeddings(http: httpx.Client, *contents: bytes) -> np.ndarray:
    response = http.post("/v1/embed", files=files(*contents))
    assert response.status_code == 200, response.text
    return np.array([result["embedding"] for result in response.json()["results"]])


def assert_alike(rows: np.ndarray, at_least: float) -> None:
    cosines = rows @ rows[0]
    assert cosines.min() >= at_least, cosines


def test_row_3_one_bad_request_of_eight_fails_alone(http: httpx.Client) -> None:
    good = [encode(scene((32 + i, 32)), "PNG") for i in range(7)]
    alone = [results(http, content)[0]["score"] for content in good]
    sent = [*good[:3], truncated(encode(noise(), "JPEG")), *good[3:]]

    def post(content: bytes) -> httpx.Response:
        form = {"concepts": CONCEPTS, "score": "max-logit"}
        return http.post("/v1/score", files=files(content), data=form)

    with ThreadPoolExecutor(8) as crowd:
        responses = list(crowd.map(post, sent))
    bad = responses.pop(3)
    assert_problem(bad, 422, "broken-image")
    assert [response.status_code for response in responses] == [200] * 7
    together = [response.json()["results"][0]["score"] for response in responses]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", ["multipart", "json"])
def test_row_4_the_error_stands_in_its_place_and_names_the_file(http: httpx.Client, kind: str) -> None:
    contents = [plain("red"), plain("blue"), b"not an image", plain("lime")]
    concepts = {"concepts": CONCEPTS}
    if kind == "multipart":
        response = http.post("/v1/score", files=files(*contents), data=concepts)
    else:
        response = http.post("/v1/score", json=as_json(*contents) | concepts)
    found = response.json()["results"]
    assert [result["error"] is None for result in found] == [True, True, False, True]
    assert (found[2]["index"], found[2]["name"]) == (2, "2.png")
    assert_problem_body(found[2]["error"])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
def test_row_5_a_file_that_was_cut_is_an_error_and_the_job_goes_on(
    http: httpx.Client, kind: str, share: float
) -> None:
    bad, good = results(http, truncated(encode(noise(), kind), share), plain("red"))
    assert bad["error"]["status"] in (415, 422), bad
    assert good["error"] is None


def test_row_8_more_images_than_a_batch_are_split(tmp_path: Path) -> None:
    contents = [plain((i * 6, 0, 0)) for i in range(40)]
    found = []
    for max_batch in (1, 7, 64):
        with running(tmp_path, max_batch=max_batch) as server, connected(server.url) as http:
            found.append(http.post("/v1/embed", files=files(*contents)).json()["results"])
    assert found[0] == found[1] == found[2]
    assert [result["index"] for result in found[0]] == list(range(40))


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": bomb_png,
    "gif": bomb_gif,
    "webp": bomb_webp,
    "tiff": bomb_tiff_tile,
    "just over": lambda: just_over(2_000_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_18_a_bomb_is_refused_by_its_header(http: httpx.Client, server: Server, bomb: str) -> None:
    before = memory_kib(server)
    started = time.monotonic()
    bad, good = results(http, BOMBS[bomb](), plain("red"))
    assert (bad["error"]["status"], good["error"]) == (413, None)
    assert time.monotonic() - started < 20
    assert memory_kib(server) - before < 300_000, "decoded, one would take 900 MB and more"


def memory_kib(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_row_19_sixteen_bit_grey_is_scaled_and_not_clipped(http: httpx.Client) -> None:
    grey = np.asarray(scene((64, 64)).convert("L"))
    twin = grey16_png(grey.astype(np.uint16) * 257)
    assert_alike(embeddings(http, encode(Image.fromarray(grey), "PNG"), twin), 0.9999)
    clipped = embeddings(http, encode(Image.new("L", (64, 64), "white"), "PNG"), twin)
    assert clipped[0] @ clipped[1] < 0.9999


def test_row_20_palettes_and_one_bit_are_read_as_the_colours_that_they_show(http: httpx.Client) -> None:
    picture = scene((64, 64))
    palette = picture.quantize(16)
    assert_alike(embeddings(http, encode(palette.convert("RGB"), "PNG"), encode(palette, "PNG")), 0.9999)
    bits = picture.convert("1")
    assert_alike(embeddings(http, encode(bits.convert("RGB"), "PNG"), encode(bits, "PNG")), 0.9999)
    hole = palette.copy()
    hole.info["transparency"] = 0
    on_white = hole.convert("RGBA")
    page = Image.new("RGB", on_white.size, "white")
    page.paste(on_white, mask=on_white.getchannel("A"))
    assert_alike(embeddings(http, encode(page, "PNG"), encode(hole, "PNG", transparency=0)), 0.9999)


def test_row_21_alpha_is_composited_on_white_on_every_road(http: httpx.Client) -> None:
    picture = scene((64, 64)).convert("RGBA")
    clear = Image.new("RGBA", (64, 64), (200, 30, 90, 0))
    clear.paste(picture, (0, 0), Image.new("L", (64, 64), 0))
    half = picture.copy()
    half.putalpha(Image.linear_gradient("L").resize((64, 64)))
    page = Image.new("RGB", half.size, "white")
    page.paste(half, mask=half.getchannel("A"))
    assert_alike(embeddings(http, encode(page, "PNG"), encode(half, "PNG")), 0.9999)
    white = encode(Image.new("RGB", (64, 64), "white"), "PNG")
    assert_alike(embeddings(http, white, encode(clear, "PNG"), encode(clear, "WEBP", lossless=True)), 0.9999)
    opaque = encode(scene((64, 64)), "PNG")
    assert_alike(embeddings(http, opaque, encode(picture, "PNG")), 0.9999)
    sent_as_json = http.post("/v1/embed", json=as_json(encode(half, "PNG"))).json()["results"]
    assert sent_as_json[0]["embedding"] == embeddings(http, encode(half, "PNG"))[0].tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_row_22_the_eight_orientations_of_one_picture_have_one_score(http: httpx.Client, kind: str) -> None:
    picture = scene((64, 64))
    rows = embeddings(http, *[turned(orientation, kind, picture) for orientation in range(1, 9)])
    assert_alike(rows, 0.999)


def test_row_23_every_format_is_decoded_by_its_bytes_whatever_its_name(http: httpx.Client) -> None:
    contents = {kind: make() for kind, make in GOOD.items()}
    named = [("images", (f"{i}.jpg", content, "image/jpeg")) for i, content in enumerate(contents.values())]
    found = http.post("/v1/embed", files=named).json()["results"]
    assert {kind: r["error"] for kind, r in zip(contents, found, strict=True) if r["error"]} == {}


def test_row_23_heic_is_decoded_or_refused_by_name(http: httpx.Client) -> None:
    header = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(200)
    bad, _ = results(http, header, plain("red"))
    assert bad["error"]["status"] in (415, 422)
    assert "HEIC" in bad["error"]["detail"]


@pytest.mark.parametrize("what", NOT_IMAGES)
def test_row_24_what_is_no_image_is_415(http: httpx.Client, what: str) -> None:
    form = [("images", ("photo.jpg", NOT_IMAGES[what], "image/jpeg"))]
    response = http.post("/v1/score", files=form, data={"concepts": CONCEPTS})
    problem = assert_problem(response, 415, "unsupported-image")
    assert problem["results"][0]["name"] == "photo.jpg"


def test_row_24_the_right_bytes_with_a_wrong_type_are_accepted(http: httpx.Client) -> None:
    jpeg = encode(scene(), "JPEG")
    told = {"a.jpg": "image/jpeg", "a.txt": "text/plain", "a": "application/pdf", "a.png": "image/png"}
    sent = [("images", (name, jpeg, kind)) for name, kind in told.items()]
    found = http.post("/v1/embed", files=sent).json()["results"]
    assert_alike(np.array([result["embedding"] for result in found]), 0.99999)


def test_row_28_a_prompt_that_is_cut_is_a_warning_that_names_the_concept(http: httpx.Client) -> None:
    long = "a very long class name " + "owl " * 195
    detector = create(http, "row-28", ["cat", long])
    (warning,) = detector["warnings"]
    assert warning["code"] == "prompt-truncated"
    assert "a very long class name" in warning["message"]
    answer = http.post("/v1/detectors/row-28/score", files=files(plain("red"))).json()
    assert answer["warnings"] == detector["warnings"]
    (cut,) = http.post("/v1/concepts/check", json={"concepts": ["cat", long]}).json()["cut_prompts"]
    assert cut["concept"] == long


def test_row_29_duplicates_are_kept_with_a_warning(http: httpx.Client) -> None:
    concepts = ["missile", "cat", "missile", "Cat", " cat "]
    body = as_json(plain("red")) | {"concepts": concepts, "top_k": 10}
    answer = http.post("/v1/score", json=body).json()
    (warning,) = answer["warnings"]
    assert warning["code"] == "duplicate-concepts"
    assert "missile" in warning["message"]
    assert "cat" in warning["message"]
    assert sorted(match["concept"] for match in answer["results"][0]["top"]) == sorted(concepts)
    assert sum(match["probability"] for match in answer["results"][0]["top"]) == pytest.approx(1)


@pytest.mark.parametrize("score", ["mcm", "entropy", "variance"])
def test_row_30_one_concept_is_refused_with_the_scores_that_work(http: httpx.Client, score: str) -> None:
    body = as_json(plain("red")) | {"concepts": ["cat"], "score": score}
    problem = assert_problem(http.post("/v1/score", json=body), 422, "invalid-definition")
    assert "max-logit" in problem["detail"]
    assert "energy" in problem["detail"]


def test_row_34_raw_scores_are_always_given_and_the_threshold_can_change(http: httpx.Client) -> None:
    create(http, "row-34", CONCEPTS)
    form = files(plain("red"), plain("blue"))
    raw = [r["score"] for r in http.post("/v1/detectors/row-34/score", files=form).json()["results"]]
    assert None not in raw
    file = http.get("/v1/detectors/row-34/file").json()
    for threshold in (0.0, 1.0):
        http.put("/v1/detectors/row-34/threshold", json={"threshold": threshold})
        found = http.post("/v1/detectors/row-34/score", files=form).json()["results"]
        assert [r["score"] for r in found] == raw
        assert [r["is_ood"] for r in found] == [s < threshold for s in raw]
    after = http.get("/v1/detectors/row-34/file").json()
    assert json.dumps(after["matrix"]) == json.dumps(file["matrix"])
