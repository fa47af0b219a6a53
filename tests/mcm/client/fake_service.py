"""A service that speaks the contract without a model: an image's score is its number of bytes.

It reads multipart bodies with the parser that the real service uses. An image that starts with "bad" is
none. Use it as the handler of an httpx.MockTransport.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from python_multipart.multipart import Field, File, parse_form

NOW = "2024-05-01T12:00:00Z"
MODEL = {"name": "fake", "fingerprint": "fake-1"}
BAD = {"type": "/problems/unsupported-image", "title": "Not an image", "status": 415, "detail": "no image"}

Scripted = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


@dataclass
class Asked:
    """One request as the service read it."""

    method: str
    path: str
    headers: httpx.Headers
    params: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    json: Any = None


class FakeService:
    """`script` is answered first, one entry a request; `asked` records what came."""

    def __init__(self, *script: Scripted) -> None:
        self.script = list(script)
        self.asked: list[Asked] = []
        self.definition_hash = "hash-1"
        self.revision = 7
        self.calibration_scores: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = read(request)
        self.asked.append(asked)
        if not self.script:
            return self.answer(asked)
        scripted = self.script.pop(0)
        if isinstance(scripted, Exception):
            raise scripted
        return scripted if isinstance(scripted, httpx.Response) else scripted(request)

    @property
    def roads(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def answer(self, asked: Asked) -> httpx.Response:
        if asked.method == "DELETE":
            return httpx.Response(204)
        last = asked.path.rsplit("/", 1)[-1]
        if last == "score":
            return self.score(asked)
        if last == "embed":
            return self.embed(asked)
        if last == "calibrate":
            return httpx.Response(200, json=certificate(asked.json["scores"], self.definition_hash))
        if last == "calibration":
            return httpx.Response(200, json=calibration(self.calibration_scores, self.definition_hash))
        return httpx.Response(200, json=detector(self.definition_hash))

    def score(self, asked: Asked) -> httpx.Response:
        if asked.json is not None:
            rows = asked.json["embeddings"]
            return httpx.Response(200, json=score_answer(self.definition_hash, [scored(r) for r in rows]))
        results = [BAD if data.startswith(b"bad") else len(data) for data in asked.images]
        names = json.loads(asked.fields.get("detectors", "[null]"))
        if all(result is BAD for result in results):
            return all_bad(asked.names)
        answer = score_answer(self.definition_hash, results, asked.names) | {"revision": self.revision}
        answers = [answer for _ in names]
        return httpx.Response(200, json={"answers": answers} if "detectors" in asked.fields else answers[0])

    def embed(self, asked: Asked) -> httpx.Response:
        things = asked.images or asked.json["texts"]
        results = [result(i, None, embedding=[1.0, float(len(x))]) for i, x in enumerate(things)]
        return httpx.Response(200, json={"model": MODEL, "results": results})


def read(request: httpx.Request) -> Asked:
    kind = request.headers.get("content-type", "")
    asked = Asked(request.method, request.url.path, request.headers, dict(request.url.params))
    if kind.startswith("multipart/"):
        _read_form(request, asked)
    elif request.content:
        asked.json = json.loads(request.content)
    return asked


def _read_form(request: httpx.Request, asked: Asked) -> None:
    def on_field(part: Field) -> None:
        assert part.field_name is not None
        assert part.value is not None
        assert part.field_name != b"images", "an image without a file name is read as text"
        asked.fields[part.field_name.decode()] = part.value.decode()

    def on_file(part: File) -> None:
        assert part.file_name is not None
        part.file_object.seek(0)
        asked.names.append(part.file_name.decode())
        asked.images.append(part.file_object.read())
        part.close()

    headers = {"Content-Type": request.headers["content-type"].encode()}
    body = request.read()
    parse_form(headers, io.BytesIO(body), on_field, on_file)


def result(index: int, name: str | None, **values: Any) -> dict[str, Any]:
    return {"index": index, "name": name, "error": None} | values


def scored(row: list[float]) -> float:
    return sum(row)


def score_answer(definition_hash: str, scores: list[Any], names: list[str] | None = None) -> dict[str, Any]:
    called: Sequence[str | None] = names or [None] * len(scores)
    return {
        "detector": "pets",
        "revision": 7,
        "definition_hash": definition_hash,
        "model": MODEL,
        "score_name": "mcm",
        "threshold": 0.5,
        "warnings": [],
        "results": [
            result(i, called[i], error=score) if score is BAD else result(i, called[i], score=score)
            for i, score in enumerate(scores)
        ],
    }


def all_bad(names: list[str]) -> httpx.Response:
    results = [result(i, name, error=BAD) for i, name in enumerate(names)]
    return httpx.Response(415, json=BAD | {"results": results})


def certificate(scores: list[float], definition_hash: str) -> dict[str, Any]:
    return {
        "detector": "pets",
        "revision": 8,
        "threshold": min(scores, default=0.0),
        "method": "split-conformal",
        "false_alarm_rate": 0.05,
        "confidence": None,
        "n": len(scores),
        "k": 1,
        "expected_rate": 0.05,
        "rate_interval": [0.0, 0.1],
        "promise": "a promise",
        "created_at": NOW,
        "definition_hash": definition_hash,
    }


def calibration(scores: list[float], definition_hash: str) -> dict[str, Any]:
    return {
        "detector": "pets",
        "revision": 7,
        "definition_hash": definition_hash,
        "scores": scores,
        "certificate": None,
    }


def detector(definition_hash: str = "hash-1", name: str = "pets") -> dict[str, Any]:
    return {
        "name": name,
        "definition": {"concepts": ["cat", "dog"], "templates": ["a {}"], "score": "mcm", "temperature": 1.0},
        "definition_hash": definition_hash,
        "revision": 7,
        "model": MODEL,
        "certificate": None,
        "created_at": NOW,
        "updated_at": NOW,
    }


def summary(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "revision": 1,
        "score": "mcm",
        "concepts": 2,
        "definition_hash": "hash-1",
        "created_at": NOW,
        "updated_at": NOW,
    }


def problem(status: int, code: str, detail: str = "a detail", **headers: str) -> httpx.Response:
    body = {"type": f"/problems/{code}", "title": "a title", "status": status, "detail": detail}
    return httpx.Response(status, json=body, headers=headers)


def busy(status: int = 503) -> httpx.Response:
    """A refusal that asks to come back at once."""
    response = problem(status, "busy")
    response.headers["Retry-After"] = "0"
    return response
