"""Whatever is sent, the answer is valid or a problem, never a 500, and the next request is answered."""

import json
import string
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcm import wire
from tests.calls import RED, assert_serves, create, files
from tests.pictures import GOOD, encode, scene
from tests.problems import assert_is_problem, assert_problem_body

bounded = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = {"Content-Type": "application/json"}
POSTS = ("/v1/detectors", "/v1/score", "/v1/embed", "/v1/concepts/check", "/v1/detectors/fuzz/score",
         "/v1/detectors/fuzz/calibrate")  # fmt: skip
PUTS = ("/v1/detectors/fuzz", "/v1/detectors/fuzz/file", "/v1/detectors/fuzz/threshold")
ROUTES = [*(("POST", path) for path in POSTS), *(("PUT", path) for path in PUTS)]
FIELDS = list({**wire.DetectorFile.model_fields, **wire.Certificate.model_fields})
for _model in (wire.NewDetector, wire.ScoreRequest, wire.OneShotRequest, wire.CalibrateRequest):
    FIELDS += _model.model_fields
FIELDS += ["threshold", "texts", "data", "prompts", "local_weight"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["mcm", "energy", "red", "a {}", "colours-1", "fuzz", "paper", "AAAA", "", "{}", "[", 0, 1, -1]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
images = st.sampled_from([make() for make in GOOD.values()])


@pytest.fixture(scope="module", autouse=True)
def fuzzed(connection: httpx.Client) -> Any:
    """The detector that the fuzz tests aim at."""
    if connection.get("/v1/detectors/fuzz").status_code == 404:
        create(connection, "fuzz")


def assert_fine(response: httpx.Response) -> None:
    """A valid answer, or a problem that the client caused."""
    if response.is_success:
        if response.content:
            json.loads(response.text, parse_constant=_refuse)
        return
    assert response.status_code in range(400, 500), response.text
    assert_is_problem(response)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@bounded
@given(body=bodies, route=st.sampled_from(ROUTES))
def test_any_json_object_on_any_route(http: httpx.Client, body: Any, route: tuple[str, str]) -> None:
    assert_fine(http.request(*route, content=dumped(body), headers=JSON))
    assert_serves(http)


@bounded
@given(body=values, route=st.sampled_from(ROUTES))
def test_any_json_at_all_on_any_route(http: httpx.Client, body: Any, route: tuple[str, str]) -> None:
    assert_fine(http.request(*route, content=dumped(body), headers=JSON))


@bounded
@given(
    extra=bodies,
    base=st.sampled_from(
        [
            ("POST", "/v1/score", {"concepts": ["red", "green"]}),
            ("POST", "/v1/detectors/fuzz/score", {"embeddings": [[1.0] * 16], "fingerprint": "colours-1"}),
            ("PUT", "/v1/detectors/fuzz", {"concepts": ["red", "green"]}),
            ("POST", "/v1/embed", {"texts": ["red"]}),
            ("POST", "/v1/concepts/check", {"concepts": ["red"]}),
        ]
    ),
)
def test_a_good_request_with_anything_added(
    http: httpx.Client, extra: Any, base: tuple[str, str, Any]
) -> None:
    method, path, good = base
    response = http.request(method, path, content=dumped(good | extra), headers=JSON)
    assert_fine(response)


@bounded
@given(content=st.binary(max_size=400), route=st.sampled_from(ROUTES))
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b", "text/plain"])
def test_any_bytes_as_a_body(http: httpx.Client, content: bytes, route: tuple[str, str], kind: str) -> None:
    response = http.request(*route, content=content, headers={"Content-Type": kind})
    assert not response.is_success
    assert_fine(response)


@bounded
@given(data=st.data())
def test_multipart_with_any_piece_replaced(http: httpx.Client, data: st.DataObject) -> None:
    request = http.build_request("POST", "/v1/score", files=files(RED), data={"concepts": ["red", "green"]})
    good = request.read()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 50)))
    content = good[:start] + data.draw(st.binary(max_size=50)) + good[end:]
    kind = {"Content-Type": request.headers["content-type"]}
    assert_fine(http.post("/v1/score", content=content, headers=kind))


@bounded
@given(content=st.binary(max_size=300))
def test_any_bytes_as_an_image(http: httpx.Client, content: bytes) -> None:
    assert_fails_alone(http, content)


@bounded
@given(image=images, data=st.data())
def test_an_image_with_any_bytes_changed_is_scored_or_fails_alone(
    http: httpx.Client, image: bytes, data: st.DataObject
) -> None:
    changed = bytearray(image)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    assert_fails_alone(http, bytes(changed)[: data.draw(st.integers(0, len(image)))])


def assert_fails_alone(http: httpx.Client, content: bytes) -> None:
    """The image is scored, or has an error in its own place; its neighbour is scored."""
    response = http.post("/v1/score", files=files(content, RED), data={"concepts": ["red", "green"]})
    assert response.status_code == 200, response.text
    first, good = response.json()["results"]
    assert good["concept"] == "red"
    if first["error"]:
        assert_problem_body(first["error"])
        assert first["error"]["status"] in (413, 415, 422)


@bounded
@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]))
@pytest.mark.parametrize("prefix", ["/", "/v1/detectors/", "/static/"])
def test_any_path(http: httpx.Client, prefix: str, path: str, method: str) -> None:
    encoded = quote(path.encode("utf-8", "surrogatepass"), safe="/%")
    response = http.request(method, prefix + encoded)
    if response.headers["content-type"] != "text/html; charset=utf-8":
        assert_fine(response)


@bounded
@given(
    name=st.sampled_from(
        ["If-Match", "X-Request-ID", "X-Request-Timeout", "Host", "Origin", "Authorization", "X-API-Key",
         "Content-Type", "Content-Encoding", "Accept", "Range", "Expect", "Cookie", "Forwarded"]
    ),
    value=st.text(alphabet=string.printable[:95] + "äé\xff", max_size=40).map(str.strip),
)  # fmt: skip
def test_any_header(http: httpx.Client, name: str, value: str) -> None:
    headers = {"Content-Type": "application/json"} | {name: value}
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    assert_fine(http.put("/v1/detectors/fuzz", content=dumped({"concepts": ["red", "green"]}), headers=raw))
    assert_serves(http)


@bounded
@given(query=st.text(max_size=30), name=st.sampled_from(["limit", "cursor", "x"]))
def test_any_query(http: httpx.Client, query: str, name: str) -> None:
    encoded = quote(query.encode("utf-8", "surrogatepass"))
    assert_fine(http.get(f"/v1/detectors?{name}={encoded}"))


@bounded
@given(
    concepts=st.lists(st.text(max_size=30), min_size=2, max_size=4), score=st.sampled_from(["mcm", "energy"])
)
def test_any_concepts_are_stored_whole_or_not_at_all(
    http: httpx.Client, concepts: list[str], score: str
) -> None:
    body = {"concepts": concepts, "score": score}
    http.delete("/v1/detectors/fuzz-concepts")
    response = http.put("/v1/detectors/fuzz-concepts", content=dumped(body), headers=JSON)
    assert_fine(response)
    stored = http.get("/v1/detectors/fuzz-concepts")
    assert stored.status_code == (200 if response.is_success else 404)
    if response.is_success:
        assert stored.json()["definition"]["concepts"] == concepts
        file = http.get("/v1/detectors/fuzz-concepts/file").json()
        assert http.put("/v1/detectors/fuzz-concepts/file", json=file).json() == stored.json()
        assert http.post("/v1/detectors/fuzz-concepts/score", files=files(encode(scene(), "PNG"))).is_success


def test_after_all_that_every_stored_detector_is_whole(http: httpx.Client) -> None:
    for summary in http.get("/v1/detectors", params={"limit": 1000}).json()["detectors"]:
        name = summary["name"]
        assert http.get(f"/v1/detectors/{name}").json()["revision"] == summary["revision"]
        assert http.post(f"/v1/detectors/{name}/score", files=files(RED)).status_code == 200


def test_nothing_unforeseen_was_logged(server: Any, http: httpx.Client) -> None:
    assert 'status="500"' not in http.get("/metrics").text
    assert not [line for line in server.lines if "unforeseen" in line or "Traceback" in line]
