"""POST /v1/embed and GET /v1/models, as API.md has them."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.calls import RED, as_json, files
from tests.pictures import HTML, plain
from tests.problems import assert_problem, assert_problem_body


def test_models_tells_of_the_encoder_that_runs(http: httpx.Client) -> None:
    response = http.get("/v1/models")
    assert response.status_code == 200
    assert response.json() == {
        "models": [
            {
                "name": "colours",
                "fingerprint": "colours-1",
                "dim": 16,
                "device": "cpu",
                "dtype": "float32",
                "activation": "none",
                "image_size": 8,
                "max_text_tokens": 20,
                "note": "A fake for tests; it knows colours only.",
            }
        ]
    }


def test_images_are_embedded_each_in_its_place(http: httpx.Client) -> None:
    answer = http.post("/v1/embed", files=files(RED, HTML, plain("blue")))
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"model", "results"}
    assert body["model"] == {"name": "colours", "fingerprint": "colours-1"}
    assert [result.keys() for result in body["results"]] == [{"index", "name", "embedding", "error"}] * 3
    assert [result["index"] for result in body["results"]] == [0, 1, 2]
    assert [result["name"] for result in body["results"]] == ["0.png", "1.png", "2.png"]
    assert body["results"][1]["embedding"] is None
    assert_problem_body(body["results"][1]["error"])
    for place in (0, 2):
        assert body["results"][place]["error"] is None
        embedding = np.array(body["results"][place]["embedding"], dtype=np.float32)
        assert embedding.tolist() == body["results"][place]["embedding"], "float32, number for number"
        assert np.linalg.norm(embedding) == pytest.approx(1)


def test_texts_are_embedded_in_order(http: httpx.Client) -> None:
    texts = ["red", "an owl", "red", "Ünïcode 🦉"]
    body = http.post("/v1/embed", json={"texts": texts}).json()
    rows = [result["embedding"] for result in body["results"]]
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3]
    assert [result["name"] for result in body["results"]] == [None] * 4
    assert rows[0] == rows[2] != rows[1]
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1] * 4)


def test_texts_may_be_fields_of_a_form(http: httpx.Client) -> None:
    fields = [("texts", (None, "red")), ("texts", (None, "an owl"))]
    answer = http.post("/v1/embed", files=fields)
    assert answer.json() == http.post("/v1/embed", json={"texts": ["red", "an owl"]}).json()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": []},
        {"texts": "red"},
        {"texts": [1]},
        {"texts": ["red"]} | as_json(RED),
        {"texts": ["red"], "top_k": 3},
        {"text": ["red"]},
    ],
)
def test_a_wrong_request_is_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(http.post("/v1/embed", json=body), 422, "invalid-request")


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "a\nb"])
def test_a_text_that_is_no_text_is_refused_and_named(http: httpx.Client, text: str) -> None:
    response = http.post("/v1/embed", json={"texts": ["red", text]})
    assert "text 1" in assert_problem(response, 422, "invalid-definition")["detail"]
