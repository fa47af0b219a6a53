"""Security headers stand on every answer, good or bad."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.calls import RED, create, files
from tests.server import running

JSON = {"Content-Type": "application/json"}
ANSWERS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/healthz", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/docs", {}, 200),
    ("GET", "/static/docs/start.js", {}, 200),
    ("GET", "/openapi.json", {}, 200),
    ("HEAD", "/docs", {}, 405),
    ("GET", "/v1/models", {}, 200),
    ("POST", "/v1/score", {"files": files(RED), "data": {"concepts": ["red", "green"]}}, 200),
    ("POST", "/v1/detectors", {"content": b"{"}, 415),
    ("POST", "/v1/detectors", {"content": b"{", "headers": JSON}, 400),
    ("GET", "/nowhere", {}, 404),
    ("GET", "/static/nowhere", {}, 404),
    ("POST", "/v1/models", {}, 405),
    ("OPTIONS", "/v1/score", {}, 405),
    ("GET", "/v1/models", {"headers": {"Host": "evil.example"}}, 403),
    ("POST", "/v1/score", {"headers": {"Origin": "http://evil.example"}}, 403),
    ("POST", "/v1/score", {"headers": {"X-Request-Timeout": "x"}}, 422),
    ("POST", "/v1/detectors", {"content": b" " * (17 * 2**20), "headers": JSON}, 413),
]  # fmt: skip


def assert_secure(response: httpx.Response) -> None:
    headers = response.headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert "x-powered-by" not in headers
    assert not [name for name in headers if name.startswith("access-control-")]
    assert not headers.get_list("set-cookie")


@pytest.mark.parametrize(("method", "path", "options", "status"), ANSWERS)
def test_every_answer_carries_them(
    http: httpx.Client, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    response = http.request(method, path, **options)
    assert response.status_code == status, response.text
    assert_secure(response)


def test_an_answer_without_a_body_carries_them(http: httpx.Client, name: str) -> None:
    create(http, name)
    response = http.delete(f"/v1/detectors/{name}")
    assert response.status_code == 204
    assert_secure(response)


def test_refusals_of_keys_and_rates_carry_them(tmp_path: Path) -> None:
    with (
        running(tmp_path, api_keys="a-key-0123456789ab", rate_limit=1) as server,
        httpx.Client(
            base_url=server.url, trust_env=False, headers={"X-API-Key": "a-key-0123456789ab"}
        ) as http,
    ):
        responses = [
            http.get("/v1/models", headers={"X-API-Key": "wrong"}),
            http.delete("/v1/detectors/x"),
            http.get("/v1/models"),
            http.get("/v1/models"),
        ]
    assert [response.status_code for response in responses] == [401, 403, 200, 429]
    for response in responses:
        assert_secure(response)
