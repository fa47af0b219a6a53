"""Health, metrics and documentation over HTTP."""

import re

import httpx

from tests.calls import RED, files
from tests.problems import assert_problem

ROUTES = {
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/v1/models"),
    ("post", "/v1/concepts/check"),
    ("get", "/v1/detectors"),
    ("post", "/v1/detectors"),
    ("put", "/v1/detectors/{name}"),
    ("get", "/v1/detectors/{name}"),
    ("delete", "/v1/detectors/{name}"),
    ("get", "/v1/detectors/{name}/drift"),
    ("get", "/v1/detectors/{name}/file"),
    ("put", "/v1/detectors/{name}/file"),
    ("post", "/v1/detectors/{name}/score"),
    ("post", "/v1/score"),
    ("post", "/v1/detectors/{name}/calibrate"),
    ("get", "/v1/detectors/{name}/calibration"),
    ("delete", "/v1/detectors/{name}/calibration"),
    ("put", "/v1/detectors/{name}/threshold"),
    ("delete", "/v1/detectors/{name}/threshold"),
    ("post", "/v1/embed"),
}


def test_a_running_service_is_live_and_ready(http: httpx.Client) -> None:
    assert (http.get("/healthz").status_code, http.get("/healthz").json()["status"]) == (200, "live")
    assert (http.get("/readyz").status_code, http.get("/readyz").json()["status"]) == (200, "ready")


def test_metrics_count_requests_by_route_and_images_by_outcome(http: httpx.Client) -> None:
    def count(pattern: str) -> float:
        found = re.search(pattern + r" ([0-9.e+]+)", http.get("/metrics").text)
        return float(found[1]) if found else 0.0

    requests = r'mcm_requests_total\{method="POST",route="/v1/embed",status="200"\}'
    before = count(requests), count(r'mcm_images_total\{outcome="embedded"\}')
    bad = count(r'mcm_images_total\{outcome="bad"\}')
    http.post("/v1/embed", files=files(RED, b"no image", RED))
    assert count(requests) == before[0] + 1
    assert count(r'mcm_images_total\{outcome="embedded"\}') == before[1] + 2
    assert count(r'mcm_images_total\{outcome="bad"\}') == bad + 1


def test_unknown_paths_make_no_metrics_of_their_own(http: httpx.Client) -> None:
    for i in range(5):
        assert_problem(http.get(f"/nowhere-{i}"), 404, "not-found")
    assert "nowhere" not in http.get("/metrics").text


def test_the_documentation_needs_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert not re.match(r"https?:|//", link), link
        if not link.startswith("data:"):
            assert http.get(link).status_code == 200, link


def test_openapi_declares_every_route_with_both_kinds_of_body_and_problems(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    found = {(method, path) for path, item in document["paths"].items() for method in item}
    assert found == ROUTES
    for path in ("/v1/score", "/v1/embed", "/v1/detectors/{name}/score", "/v1/detectors/{name}/calibrate"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content.keys() == {"application/json", "multipart/form-data"}
    for path in document["paths"].values():
        for operation in path.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_every_reference_of_openapi_leads_somewhere(http: httpx.Client) -> None:
    text = http.get("/openapi.json").text
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in schemas
    assert "$defs" not in text
