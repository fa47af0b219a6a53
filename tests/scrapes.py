"""What a server tells Prometheus, read by Prometheus' own parser."""

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Scrape:
    """One answer of /metrics."""

    samples: list[Sample]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 if there are none."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels, without those that are 0."""
        found = {s.labels[label] for s in self.samples if s.name == name}
        values = {value: self.value(name, **{label: value}) for value in found}
        return {key: value for key, value in values.items() if value}


def parse(text: str) -> Scrape:
    """Read Prometheus' text format."""
    return Scrape([s for family in text_string_to_metric_families(text) for s in family.samples])


def scrape(http: httpx.Client) -> Scrape:
    """Ask a server."""
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(response.text)


def increase(before: Scrape, after: Scrape, name: str, label: str) -> dict[str, float]:
    """How much a metric rose between two scrapes, by one of its labels; what did not change is left out."""
    then, now = before.by(name, label), after.by(name, label)
    rises = {key: value - then.get(key, 0) for key, value in now.items()}
    return {key: rise for key, rise in rises.items() if rise}
