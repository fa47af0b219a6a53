"""gl-mcm and maps over HTTP: patches are looked at where somebody asks for them, and only there."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.api.images import MAX_CONCEPTS_OF_PATCHES
from mcm.detector_file import read_detector_file
from mcm.embeddings import Vectors
from mcm.images import load_image
from tests.calls import RED, as_json, connected, create, files
from tests.fakes import PatchColourEncoder
from tests.pictures import plain
from tests.problems import assert_problem
from tests.scrapes import increase, scrape
from tests.server import running

BLUE = plain("blue")
CONCEPTS = ["red", "green", "blue"]


def quarters(*colours: str) -> bytes:
    """An image of four plain quarters, from the top left."""
    image = Image.new("RGB", (16, 16))
    for i, colour in enumerate(colours):
        image.paste(Image.new("RGB", (8, 8), colour), (i % 2 * 8, i // 2 * 8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


MIXED = quarters("lime", "red", "blue", "red")


def seen(*contents: bytes) -> tuple[Vectors, Vectors]:
    encoder = PatchColourEncoder()
    return encoder.encode_patches(np.stack([encoder.prepare(load_image(content)) for content in contents]))


def score(http: httpx.Client, name: str, *contents: bytes, **options: Any) -> Any:
    response = http.post(f"/v1/detectors/{name}/score", files=files(*contents), data=options)
    assert response.status_code == 200, response.text
    return response.json()


def forwards(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, float]:
    """How many images a request sends through the encoder, by the lane that they take."""
    before = scrape(http)
    assert http.post(path, json=body).status_code == 200
    return increase(before, scrape(http), "mcm_batch_size_sum", "kind")


def test_a_detector_has_the_local_weight_of_its_score_and_no_other_has_one(
    http: httpx.Client, name: str
) -> None:
    assert create(http, name, score="gl-mcm")["definition"]["local_weight"] == 0.5
    assert create(http, f"{name}-1", score="gl-mcm", local_weight=1)["definition"]["local_weight"] == 1.0
    assert "local_weight" not in create(http, f"{name}-2")["definition"]


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"local_weight": 0.5}, "invalid-definition", "local_weight goes with the score 'gl-mcm'"),
        ({"score": "energy", "local_weight": 0}, "invalid-definition", "'energy' has none"),
        ({"score": "gl-mcm", "local_weight": -1}, "invalid-request", "local_weight"),
        ({"score": "gl-mcm", "local_weight": "heavy"}, "invalid-request", "local_weight"),
        ({"score": "gl-mcm", "concepts": ["red"]}, "invalid-definition", "max-logit or energy"),
    ],
)
def test_a_wrong_local_weight_is_refused_by_name(
    http: httpx.Client, name: str, fields: dict[str, Any], code: str, reason: str
) -> None:
    body = {"concepts": CONCEPTS, **fields}
    for response in (
        http.post("/v1/detectors", json={"name": name, **body}),
        http.post("/v1/score", json={**as_json(RED), **body}),
    ):
        assert_problem(response, 422, code)
        assert reason in response.json()["detail"]


def test_local_weight_goes_with_concepts_not_with_detectors(http: httpx.Client, name: str) -> None:
    create(http, name, score="gl-mcm")
    body = {**as_json(RED), "detectors": [name], "local_weight": 1}
    assert_problem(http.post("/v1/score", json=body), 422, "invalid-request")


@pytest.mark.parametrize("weight", [0, 0.5, 2])
def test_the_scores_are_the_librarys(http: httpx.Client, name: str, weight: float) -> None:
    create(http, name, score="gl-mcm", local_weight=weight, temperature=0.1)
    detector = read_detector_file(http.get(f"/v1/detectors/{name}/file").content)
    rows, patches = seen(RED, MIXED)
    expected = detector.judge(rows, local=detector.local(rows, patches))
    results = score(http, name, RED, MIXED)["results"]
    assert [result["score"] for result in results] == [verdict.score for verdict in expected]
    assert [result["concept"] for result in results] == [verdict.concept for verdict in expected]
    assert all(result["lift"] is None for result in results)


def test_one_shot_and_many_detectors_agree_with_the_detector_alone(http: httpx.Client, name: str) -> None:
    create(http, name, score="gl-mcm", local_weight=1)
    create(http, f"{name}-1")
    both = [name, f"{name}-1"]
    alone = [score(http, one, RED, b"no image", MIXED)["results"] for one in both]
    many = http.post("/v1/score", files=files(RED, b"no image", MIXED), data={"detectors": both}).json()
    for answer, expected in zip(many["answers"], alone, strict=True):
        assert [r["score"] for r in answer["results"]] == [r["score"] for r in expected]
        assert answer["results"][1]["error"]["status"] == 415
    fields = {"concepts": CONCEPTS, "score": "gl-mcm", "local_weight": "1"}
    once = http.post("/v1/score", files=files(RED, MIXED), data=fields).json()
    assert [r["score"] for r in once["results"]] == [alone[0][0]["score"], alone[0][2]["score"]]


def test_one_forward_serves_embedding_and_patches_and_mcm_pays_for_none(
    http: httpx.Client, name: str
) -> None:
    create(http, name, score="gl-mcm")
    create(http, f"{name}-1")
    images = as_json(RED, MIXED)
    assert forwards(http, f"/v1/detectors/{name}/score", images) == {"patches": 2}
    assert forwards(http, f"/v1/detectors/{name}-1/score", images) == {"images": 2}
    assert forwards(http, "/v1/score", {**images, "detectors": [name, f"{name}-1"]}) == {"patches": 2}
    assert forwards(http, "/v1/embed", images) == {"images": 2}


def test_calibrating_with_images_uses_the_scores_that_they_get(http: httpx.Client, name: str) -> None:
    create(http, name, score="gl-mcm")
    shades = [quarters(f"rgb(255,{i},{i})", "red", "red", f"rgb({255 - i},0,0)") for i in range(0, 200, 10)]
    certificate = http.post(f"/v1/detectors/{name}/calibrate", files=files(*shades)).json()
    results = score(http, name, *shades)["results"]
    assert certificate["threshold"] == min(result["score"] for result in results)
    assert [result["is_ood"] for result in results] == [False] * 20


def test_embeddings_alone_are_refused(http: httpx.Client, name: str) -> None:
    create(http, name, score="gl-mcm")
    body = {"embeddings": [[1.0] * 16], "fingerprint": "colours-1"}
    response = http.post(f"/v1/detectors/{name}/score", json=body)
    assert_problem(response, 422, "invalid-embeddings")
    assert "needs the patches of the images" in response.json()["detail"]


def test_if_every_image_is_bad_the_first_problem_is_the_answer(http: httpx.Client, name: str) -> None:
    create(http, name, score="gl-mcm")
    response = http.post(f"/v1/detectors/{name}/score", files=files(b"no image", b""))
    assert_problem(response, 415, "unsupported-image")
    assert len(response.json()["results"]) == 2


def test_a_detector_file_keeps_the_local_weight(http: httpx.Client, name: str) -> None:
    made = create(http, name, score="gl-mcm", local_weight=0.25)
    file = http.get(f"/v1/detectors/{name}/file").json()
    assert file["definition"]["local_weight"] == 0.25
    copied = http.put(f"/v1/detectors/{name}-1/file", json=file).json()
    assert copied["definition_hash"] == made["definition_hash"]
    assert copied["definition"] == made["definition"]
    create(http, f"{name}-2")
    assert "local_weight" not in http.get(f"/v1/detectors/{name}-2/file").json()["definition"]


# ---- maps


@pytest.mark.parametrize("name_of_score", ["mcm", "gl-mcm", "energy"])
def test_a_map_shows_where_the_concept_matches(http: httpx.Client, name: str, name_of_score: str) -> None:
    create(http, name, score=name_of_score)
    explained, plainly = (
        score(http, name, quarters("blue", "red", "red", "red"), explain=explain)["results"][0]
        for explain in ("true", "false")
    )
    assert "explain" not in plainly
    assert {key: value for key, value in explained.items() if key != "explain"} == plainly
    assert explained["explain"]["concept"] == explained["concept"] == "red"
    (top_left, top_right), (bottom_left, bottom_right) = explained["explain"]["rows"]
    assert top_left < top_right == bottom_left == bottom_right == pytest.approx(1, abs=1e-6)


def test_each_detector_explains_its_own_concept(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], score="gl-mcm")
    create(http, f"{name}-1", ["blue", "green"])
    body = {**as_json(MIXED), "detectors": [name, f"{name}-1"], "explain": True}
    first, second = http.post("/v1/score", json=body).json()["answers"]
    assert first["results"][0]["explain"]["concept"] == "red"
    assert first["results"] == score(http, name, MIXED, explain="true")["results"]
    assert second["results"] == score(http, f"{name}-1", MIXED, explain="true")["results"]


def test_a_bad_image_has_no_map(http: httpx.Client, name: str) -> None:
    create(http, name)
    good, bad = score(http, name, RED, b"no image", explain="true")["results"]
    assert good["explain"]["rows"]
    assert "explain" not in bad


def test_embeddings_cannot_be_explained(http: httpx.Client, name: str) -> None:
    create(http, name)
    body = {"embeddings": [[1.0] * 16], "fingerprint": "colours-1", "explain": True}
    response = http.post(f"/v1/detectors/{name}/score", json=body)
    assert_problem(response, 422, "invalid-request")
    assert "explain goes with images" in response.json()["detail"]


def test_patches_against_too_many_concepts_are_refused_before_any_work(http: httpx.Client, name: str) -> None:
    create(http, name, [f"c{i}" for i in range(500)], score="gl-mcm")
    together = [name] * (MAX_CONCEPTS_OF_PATCHES // 500 + 1)
    before = scrape(http)
    response = http.post("/v1/score", json={**as_json(RED), "detectors": together})
    assert_problem(response, 422, "invalid-request")
    assert "held against 20500 concepts" in response.json()["detail"]
    assert increase(before, scrape(http), "mcm_batch_size_sum", "kind") == {}


# ---- an encoder that gives none


def test_an_encoder_without_patches_refuses_what_needs_them_by_name(tmp_path: Path) -> None:
    with running(tmp_path, test_patches="none") as server, connected(server.url) as http:
        body = {"concepts": CONCEPTS, "score": "gl-mcm"}
        create(http, "plain")
        for response in (
            http.post("/v1/detectors", json={"name": "local", **body}),
            http.put("/v1/detectors/local", json=body),
            http.post("/v1/score", json={**as_json(RED), **body}),
            http.post("/v1/detectors/plain/score", json={**as_json(RED), "explain": True}),
        ):
            assert_problem(response, 422, "no-patches")
            assert "the encoder colours gives no patch embeddings" in response.json()["detail"]
        assert http.get("/v1/detectors/local").status_code == 404
