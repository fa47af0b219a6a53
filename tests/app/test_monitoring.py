"""The dashboard, the alert rules and the list of metrics in docs/monitoring, against a running server."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.calls import RED, calibrate, connected, create, files
from tests.pictures import plain
from tests.scrapes import Scrape, scrape
from tests.serve_colours import HOLD, held
from tests.server import ROOT, running

FOLDER = ROOT / "docs" / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
ADDED_BY_PROMETHEUS = {"job", "instance"}
SELECTOR = re.compile(r"\b((?:mcm|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """What a server tells after a few requests, of which one was refused and one came too late."""
    folder = tmp_path_factory.mktemp("monitored")
    os.mkfifo(gate := folder / "gate")
    with (
        running(folder, max_queued_images=2, test_gate=gate, drift=1) as server,
        connected(server.url) as http,
        ThreadPoolExecutor() as crowd,
    ):
        create(http, "a")
        calibrate(http, "a")
        http.post("/v1/detectors/a/score", files=files(RED))
        holding = crowd.submit(http.post, "/v1/embed", files=files(plain(HOLD)))
        with held(gate):
            assert http.post("/v1/embed", files=files(RED, RED)).status_code == 429
            hurry = {"X-Request-Timeout": "0.1"}
            assert http.post("/v1/embed", files=files(RED), headers=hurry).status_code == 504
        holding.result()
        assert http.get("/v1/detectors/a/drift").status_code == 200  # counted by now
        http.get("/metrics")
        yield scrape(http)


def labels_of(name: str, exported: Scrape) -> set[str]:
    """The labels of a metric, which must be there."""
    samples = [s for s in exported.samples if s.name == name]
    assert samples, f"no metric is called {name}"
    return set(samples[0].labels)


def check(expression: str, exported: Scrape) -> set[str]:
    """Every metric of a PromQL expression is exported, with a sample that its matchers match.

    Gives the labels that are left in the result.
    """
    found = SELECTOR.findall(expression)
    assert found, f"no metric in {expression}"
    labels = set.intersection(*(labels_of(name, exported) for name, _ in found)) | ADDED_BY_PROMETHEUS
    for name, matchers in found:
        wanted = [m for m in MATCHER.findall(matchers) if m[0] not in ADDED_BY_PROMETHEUS]
        mine = [s.labels for s in exported.samples if s.name == name]
        assert any(all(matches(sample, *m) for m in wanted) for sample in mine), f"nothing matches {matchers}"
    grouped = [{label.strip() for label in group.split(",")} for group in GROUPING.findall(expression)]
    for group in grouped:
        assert group <= labels, f"{expression} groups by {group - labels}"
    return set.intersection(labels, *grouped)


def matches(labels: dict[str, str], label: str, operator: str, pattern: str) -> bool:
    value = labels.get(label, "")
    return value == pattern if operator == "=" else re.fullmatch(pattern, value) is not None


@pytest.mark.parametrize(
    "expression",
    [
        "mcm_nothing_total",
        'mcm_images_total{colour="red"}',
        'mcm_images_total{outcome="lost"}',
        'mcm_requests_total{route=~"/v2/.*"}',
        "sum by (route) (mcm_images_total)",
    ],
)
def test_an_expression_about_what_is_not_exported_is_noticed(expression: str, exported: Scrape) -> None:
    with pytest.raises(AssertionError):
        check(expression, exported)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exported_and_says_what_to_do(rule: Any, exported: Scrape) -> None:
    left = check(rule["expr"], exported)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= left


@pytest.mark.parametrize(
    ("title", "target"), TARGETS, ids=lambda found: found if isinstance(found, str) else ""
)
def test_a_panel_asks_for_what_is_exported(title: str, target: Any, exported: Scrape) -> None:
    left = check(target["expr"], exported)
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, title
    assert target["datasource"]["uid"] == "${datasource}"


def test_the_dashboards_variables_are_there() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) - {"__rate_interval"}
    assert used == variables == {"datasource", "job", "instance"}


def test_alerts_and_panels_have_names_of_their_own() -> None:
    for names in ([rule["alert"] for rule in RULES], [panel["id"] for panel in DASHBOARD["panels"]]):
        assert len(names) == len(set(names))


def test_the_list_of_metrics_is_whole_and_true(exported: Scrape) -> None:
    listed = {name: labels for names, labels, _ in table("name") for name in words(names)}
    names = {re.sub(r"_(bucket|sum|count)$", "", s.name) for s in exported.samples}
    assert listed.keys() - {"process_"} == {name for name in names if name.startswith("mcm_")}
    for name, labels in listed.items():
        sample = next(s for s in exported.samples if s.name.startswith(name))
        assert sample.labels.keys() - {"le"} == set(words(labels)), name


def test_the_list_of_outcomes_is_whole(exported: Scrape) -> None:
    listed = {outcome for outcomes, _ in table("outcome") for outcome in words(outcomes)}
    assert listed == {s.labels["outcome"] for s in exported.samples if s.name == "mcm_images_total"}


def table(first: str) -> list[list[str]]:
    """The cells of the README's table whose first column has this name, row by row."""
    _, _, after = (FOLDER / "README.md").read_text().partition(f"| {first} |")
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [row.strip("|").split("|") for row in rows]


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)\*?`", cell)
