"""Who may call: binding, the Host and Origin rules, keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.__main__ import main
from tests.calls import RED, as_json, connected
from tests.fakes import ColourEncoder
from tests.problems import assert_problem
from tests.server import COLOURS, Server, ended, running

READ, ADMIN = "reader-1", "admin-1"
WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/detectors", {"name": "gate", "concepts": ["red", "green"]}),
    ("PUT", "/v1/detectors/gate", {"concepts": ["red", "blue"]}),
    ("PUT", "/v1/detectors/gate/threshold", {"threshold": 0.5}),
    ("DELETE", "/v1/detectors/gate/threshold", None),
    ("POST", "/v1/detectors/gate/calibrate", {"scores": [0.5] * 40, "definition_hash": "x"}),
    ("DELETE", "/v1/detectors/gate/calibration", None),
    ("PUT", "/v1/detectors/gate/file", {}),
    ("DELETE", "/v1/detectors/gate", None),
]
READS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/models", None),
    ("GET", "/v1/detectors", None),
    ("POST", "/v1/concepts/check", {"concepts": ["red"]}),
    ("POST", "/v1/score", as_json(RED) | {"concepts": ["red", "green"]}),
    ("POST", "/v1/embed", {"texts": ["red"]}),
    ("GET", "/metrics", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
]

LOOPBACK = [
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.1.2.3",
    "[::1]",
    "[::1]:8000",
    "localhost.",
    "mcm.localhost",
    "localhost.:80",
]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "10.0.0.1",
    "[::2]",
    "0.0.0.0",
    "::1",
    "[",
    "]",
    "[::1",
    "@",
    "a@b",
    "localhost@evil.example",
    "*",
    "127.0.0.1:80:80x@e",
]
ORIGINS = [
    "http://evil.example",
    "https://evil.example:8000",
    "null",
    "http://[",
    "x",
    "http://127.0.0.1",
    "http://localhost:1",
    "http://127.0.0.1.evil.example",
    "file://",
]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for keys, and answers to two names of its own."""
    settings: dict[str, Any] = {
        "api_keys": f"{READ}, reader-2,",
        "admin_keys": ADMIN,
        "allowed_hosts": "Example.COM, mcm.local",
    }
    with running(tmp_path_factory.mktemp("keyed"), **settings) as server:
        yield server


@pytest.fixture
def reader(keyed: Server) -> Iterator[httpx.Client]:
    with connected(keyed.url, Authorization=f"Bearer {READ}") as http:
        yield http


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# ---- Host


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_served_with_any_port(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_is_refused_on_reading_and_writing(http: httpx.Client, host: str) -> None:
    assert_problem(http.get("/v1/models", headers={"Host": host}), 403, "forbidden-host")
    response = http.post("/v1/detectors", json={"name": "x", "concepts": ["a", "b"]}, headers={"Host": host})
    assert_problem(response, 403, "forbidden-host")


def test_a_missing_host_is_refused(http: httpx.Client) -> None:
    request = http.build_request("GET", "/v1/models", headers={"Connection": "close"})
    request.headers["Host"] = ""
    assert_problem(http.send(request), 403, "forbidden-host")


@pytest.mark.parametrize("host", ["example.com", "EXAMPLE.com:443", "mcm.local", "mcm.local."])
def test_a_configured_name_is_served(reader: httpx.Client, host: str) -> None:
    assert reader.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "a.example.com", "example.com.evil.example"])
def test_a_name_that_is_not_configured_is_refused_even_with_a_key(reader: httpx.Client, host: str) -> None:
    assert_problem(reader.get("/v1/models", headers={"Host": host}), 403, "forbidden-host")


# ---- Origin


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    ("method", "path", "body"), [*WRITES, *[read for read in READS if read[0] == "POST"]]
)
def test_a_foreign_origin_is_refused_on_every_post_put_and_delete(
    http: httpx.Client, method: str, path: str, body: Any, origin: str
) -> None:
    response = http.request(method, path, json=body, headers={"Origin": origin})
    assert_problem(response, 403, "forbidden-origin")


def test_a_foreign_origin_has_written_nothing(http: httpx.Client) -> None:
    assert_problem(http.get("/v1/detectors/gate"), 404, "detector-not-found")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_services_own_pages_may_write(http: httpx.Client, server: Server, scheme: str) -> None:
    origin = server.url.replace("http", scheme, 1)
    response = http.post("/v1/embed", json={"texts": ["red"]}, headers={"Origin": origin})
    assert response.status_code == 200


def test_own_pages_under_another_loopback_name_may_write(http: httpx.Client, server: Server) -> None:
    port = server.url.rpartition(":")[2]
    headers = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert http.post("/v1/embed", json={"texts": ["red"]}, headers=headers).status_code == 200


def test_reading_is_open_to_every_origin_and_shows_it_nothing(http: httpx.Client) -> None:
    response = http.get("/v1/models", headers={"Origin": "http://evil.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_a_preflight_is_never_granted(http: httpx.Client) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    response = http.request("OPTIONS", "/v1/detectors/gate", headers=headers)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers


# ---- keys


@pytest.mark.parametrize(("method", "path", "body"), [*READS, *WRITES])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(READ[:-1]),
        bearer(f"{READ}, reader-2"),
        {"Authorization": "Bearer"},
        {"Authorization": READ},
        {"Authorization": f"Basic {READ}"},
        {"X-API-Key": "wrong"},
    ],
)
def test_without_a_valid_key_nothing_is_read_or_written(
    keyed: Server, connection: httpx.Client, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    response = connection.request(method, keyed.url + path, json=body, headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key_and_any_host(keyed: Server, connection: httpx.Client, path: str) -> None:
    assert connection.get(keyed.url + path, headers={"Host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), READS)
@pytest.mark.parametrize(
    "headers",
    [
        bearer(READ),
        bearer("reader-2"),
        bearer(ADMIN),
        {"Authorization": f"bearer  {READ}"},
        {"X-API-Key": READ},
    ],
)
def test_any_key_reads_and_scores(
    reader: httpx.Client, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    assert reader.request(method, path, json=body, headers=headers).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_reading_key_may_not_write(reader: httpx.Client, method: str, path: str, body: Any) -> None:
    assert_problem(reader.request(method, path, json=body), 403, "forbidden")


def test_an_admin_key_writes(reader: httpx.Client) -> None:
    admin = bearer(ADMIN)
    body = {"name": "gate", "concepts": ["red", "green"]}
    assert reader.post("/v1/detectors", json=body, headers=admin).status_code == 201
    assert reader.put(
        "/v1/detectors/gate/threshold", json={"threshold": 0.5}, headers=admin
    ).status_code == 200  # fmt: skip
    scored = reader.post("/v1/detectors/gate/score", json=as_json(RED))
    assert scored.json()["results"][0]["is_ood"] is False
    assert reader.delete("/v1/detectors/gate", headers=admin).status_code == 204


def test_a_detector_called_score_cannot_be_written_with_a_reading_key(reader: httpx.Client) -> None:
    for method, path in (("PUT", "/v1/detectors/score"), ("DELETE", "/v1/detectors/embed")):
        assert_problem(reader.request(method, path, json={"concepts": ["a", "b"]}), 403, "forbidden")


def test_a_foreign_origin_is_refused_even_with_a_key(reader: httpx.Client) -> None:
    response = reader.post("/v1/embed", json={"texts": ["a"]}, headers={"Origin": "http://evil.example"})
    assert_problem(response, 403, "forbidden-origin")


# ---- binding


def test_without_keys_only_loopback_is_bound_and_one_line_names_both_ways_out(tmp_path: Path) -> None:
    code, lines = ended(tmp_path, COLOURS, host="0.0.0.0")
    assert code == 2
    (line,) = lines
    assert "MCM_API_KEYS" in line
    assert "MCM_ALLOW_ANONYMOUS=1" in line


@pytest.mark.parametrize("host", ["::", "10.0.0.1", "", "example.com", "localhost.example.com"])
def test_nothing_but_loopback_is_taken_for_loopback(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCM_HOST", host)
    assert main(ColourEncoder()) == 2
    assert "MCM_ALLOW_ANONYMOUS=1" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"api_keys": "k"}, {"allow_anonymous": 1}], ids=["keys", "consent"])
def test_with_keys_or_with_consent_every_address_is_bound(tmp_path: Path, settings: dict[str, Any]) -> None:
    with running(tmp_path, host="0.0.0.0", **settings) as server:
        port = server.url.rpartition(":")[2]
        with connected(f"http://127.0.0.1:{port}", Authorization="Bearer k") as http:
            assert http.get("/v1/models").status_code == 200


def test_every_loopback_address_is_bound_without_keys(tmp_path: Path) -> None:
    with running(tmp_path, host="127.0.0.2") as server, connected(server.url) as http:
        assert http.get("/v1/models").status_code == 200
