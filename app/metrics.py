"""Prometheus metrics, in a registry of the app's own: events are counted here as they happen.

What the engine and the catalog count themselves is read by `app.readings` when somebody asks.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from app.catalog import Catalog
from app.engine import Engine, Timings
from app.engine.stats import SECONDS
from app.readings import Readings
from mcm.encoders import Encoder
from mcm.errors import ImageError, McmError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_SECONDS = (*SECONDS, 300.0, 900.0)  # creating a detector may take that long
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_DETECTORS = 100
# No detector can be called so: names begin with a letter or a digit.
OTHER_DETECTORS, ONE_SHOT = "_other", "_one_shot"
VERDICTS = {True: "ood", False: "in_distribution", None: "none"}
# How an image ends whose request was answered before the image was: by the status of the request.
UNFINISHED = {413: "refused", 429: "refused", 499: "dropped", 504: "timed_out"}
OUTCOMES = ("scored", "embedded", "calibrated", "bad", "failed", *sorted(set(UNFINISHED.values())))


@dataclass
class Work:
    """What one request has the service do: measured on the way, told when the request ends.

    `images`: those in hand, which were sent to the engine and have no outcome yet.
    """

    request_id: str
    timings: Timings = field(default_factory=Timings)
    score_s: float = 0.0
    images: int = 0

    def server_timing(self) -> str:
        """The Server-Timing header: milliseconds of queue, decode, forward and score."""
        spent = self.timings
        parts = {
            "queue": spent.queue_s,
            "decode": spent.decode_s,
            "forward": spent.forward_s,
            "score": self.score_s,
        }
        return ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts.items())


class Registry(CollectorRegistry):
    """Without the `_created` twin of every counter and histogram; the library's own switch is global."""

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        for metric in super().collect():
            metric.samples = [s for s in metric.samples if s.name != f"{metric.name}_created"]
            yield metric


class Metrics:
    """What the service counts, and what it reads of its parts once they run (`watch`)."""

    def __init__(self) -> None:
        self.registry = Registry()
        ProcessCollector(registry=self.registry)
        self._ready = Gauge("mcm_ready", "1 when the service takes work, as /readyz", registry=self.registry)
        self._requests = Counter(
            "mcm_requests",
            "Requests by route, method and status; 499: the caller left",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "mcm_request_seconds",
            "Time to answer",
            ["route"],
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self._images = Counter("mcm_images", "Images by outcome", ["outcome"], registry=self.registry)
        self._score_seconds = Histogram(
            "mcm_score_seconds",
            "Time to judge the images of a request with one detector",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._verdicts = Counter(
            "mcm_verdicts", "Verdicts by detector", ["detector", "verdict"], registry=self.registry
        )
        self._detectors: set[str] = set()
        for outcome in OUTCOMES:
            self._images.labels(outcome)  # shown as 0 from the start, so that the first one is an increase

    def watch(self, engine: Engine, catalog: Catalog, encoder: Encoder) -> None:
        """Read these parts at every scrape from now on."""
        self._ready.set_function(lambda: float(engine.readiness().ok))
        self.registry.register(Readings(engine, catalog, encoder))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request has ended."""
        self._requests.labels(route, method if method in METHODS else "other", status).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_images(self, work: Work, outcomes: Iterable[object], done: str) -> None:
        """The images in hand have ended, each `done` or with its error."""
        for outcome in outcomes:
            self._images.labels(_ending(outcome, done)).inc()
        work.images = 0

    def count_unfinished(self, work: Work, status: int) -> None:
        """The request has ended with `status` and with images still in hand."""
        if work.images:
            self._images.labels(UNFINISHED.get(status, "failed")).inc(work.images)

    @contextmanager
    def scoring(self, work: Work) -> Iterator[None]:
        """Measure the judging of a request's images."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        work.score_s += seconds
        self._score_seconds.observe(seconds)

    def count_verdicts(self, detector: str | None, verdicts: Iterable[bool | None]) -> None:
        """Verdicts of a stored detector, or of a one-shot one (None)."""
        label = ONE_SHOT if detector is None else self._detector_label(detector)
        for verdict in verdicts:
            self._verdicts.labels(label, VERDICTS[verdict]).inc()

    def forget_detector(self, name: str) -> None:
        """Make room for another detector's verdicts."""
        if name in self._detectors:
            self._detectors.remove(name)
            for verdict in VERDICTS.values():
                self._verdicts.remove(name, verdict)

    def _detector_label(self, name: str) -> str:
        if name not in self._detectors:
            if len(self._detectors) >= MAX_DETECTORS:
                return OTHER_DETECTORS
            self._detectors.add(name)
            for verdict in VERDICTS.values():
                self._verdicts.labels(name, verdict)  # 0 from the start, and there to be forgotten
        return name


def _ending(outcome: object, done: str) -> str:
    if isinstance(outcome, ImageError):
        return "bad"
    return "failed" if isinstance(outcome, McmError) else done
