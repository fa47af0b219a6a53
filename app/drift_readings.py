"""What is kept of the detectors' drift, as Prometheus metrics read at the time of a scrape."""

from collections.abc import Callable, Iterator
from math import log

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.drift import DriftWatch
from app.metrics import MAX_DETECTORS, OTHER_DETECTORS
from mcm.drift import Drift

Value = Callable[[Drift], float | None]


class DriftReadings(Collector):
    """A gauge of each detector, those watched longest first; of all beyond MAX_DETECTORS the worst alone."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield self._gauge(
            "mcm_drift_alarm",
            "1 once the images no longer look like the calibration images",
            lambda drift: float(drift.alarm_after is not None),
            of_others=True,
        )
        yield self._gauge(
            "mcm_drift_log10_wealth",
            "Evidence of drift; the alarm is raised at 2",
            lambda drift: drift.log_wealth / log(10),
            of_others=True,
        )
        yield self._gauge("mcm_drift_images", "Images since the calibration", lambda drift: drift.images)
        yield self._gauge(
            "mcm_drift_rejected_ratio",
            "Share of the last 1,000 to 2,000 images that was called OOD",
            lambda drift: drift.recent.rejected_share,
        )
        yield self._gauge(
            "mcm_drift_ood_ratio",
            "Storey's estimate of the share of OOD images among the last 1,000 to 2,000",
            lambda drift: drift.recent.ood_share,
        )
        yield CounterMetricFamily(
            "mcm_drift_uncounted_images",
            "Images not counted for drift, since the store was away for too long",
            value=self._watch.uncounted,
        )

    def _gauge(self, name: str, help_: str, value: Value, *, of_others: bool = False) -> Metric:
        family = GaugeMetricFamily(name, help_, labels=["detector"])
        kept = sorted(self._watch.kept.items(), key=lambda item: (item[1].since, item[0]))
        values = [(detector, value(stored.drift)) for detector, stored in kept]
        for detector, found in values[:MAX_DETECTORS]:
            if found is not None:
                family.add_metric([detector], found)
        others = [found for _, found in values[MAX_DETECTORS:] if found is not None]
        if of_others and others:
            family.add_metric([OTHER_DETECTORS], max(others))
        return family
