"""Small words for speaking to a running service over HTTP."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.pictures import plain

Files = list[tuple[str, tuple[str, bytes]]]
RED = plain("red")


@contextmanager
def connected(url: str, **headers: str) -> Iterator[httpx.Client]:
    """A client for raw requests; when its user is done, the service must still answer normally."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60, headers=headers) as http:
        yield http
        assert_serves(http)


def assert_serves(http: httpx.Client) -> None:
    """The next request is answered normally."""
    answer = http.post("/v1/score", files=files(RED), data={"concepts": ["red", "green"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["concept"] == "red"


def files(*contents: bytes) -> Files:
    """Images as files of a multipart body, named 0.png, 1.png ..."""
    return [("images", (f"{i}.png", content)) for i, content in enumerate(contents)]


def as_json(*contents: bytes) -> dict[str, Any]:
    """The same images as a JSON body."""
    return {
        "images": [
            {"name": f"{i}.png", "data": base64.b64encode(content).decode()}
            for i, content in enumerate(contents)
        ]
    }


def create(http: httpx.Client, name: str, concepts: Any = ("red", "green", "blue"), **more: Any) -> Any:
    """Create a detector; gives the answer's body."""
    response = http.post("/v1/detectors", json={"name": name, "concepts": list(concepts), **more})
    assert response.status_code == 201, response.text
    return response.json()


def calibrate(http: httpx.Client, name: str, count: int = 40) -> Any:
    """Calibrate with `count` scores from 0.301 upwards; gives the answer's body."""
    definition_hash = http.get(f"/v1/detectors/{name}").json()["definition_hash"]
    scores = [round(0.301 + i / 1000, 3) for i in range(count)]
    response = http.post(
        f"/v1/detectors/{name}/calibrate", json={"scores": scores, "definition_hash": definition_hash}
    )
    assert response.status_code == 200, response.text
    return response.json()
