"""What the engine and the catalog know of themselves, as Prometheus metrics read at the time of a scrape."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import mcm
from app.catalog import Catalog
from app.engine import Engine, Histogram
from mcm.encoders import Encoder


class Readings(Collector):
    """A collector that holds nothing: every value is asked of its owner. For the event loop only."""

    def __init__(self, engine: Engine, catalog: Catalog, encoder: Encoder) -> None:
        self._engine, self._catalog, self._encoder = engine, catalog, encoder

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield self._build()
        yield from self._states()
        yield from self._histograms()
        yield from self._caches()
        yield CounterMetricFamily(
            "mcm_store_failures",
            "Questions to the store that it could not be asked",
            value=self._catalog.store_failures,
        )

    def _build(self) -> Metric:
        encoder = self._encoder
        facts = {
            "version": mcm.__version__,
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "device": encoder.device,
            "dtype": encoder.dtype,
        }
        return InfoMetricFamily("mcm_build", "What runs here", value=facts)

    def _states(self) -> Iterator[Metric]:
        engine, admission, limits = self._engine, self._engine.admission, self._engine.limits
        yield GaugeMetricFamily(
            "mcm_engine_heartbeat_age_seconds",
            "Seconds since the model thread last showed life: 0 while idle, +Inf once dead",
            value=engine.heartbeat_age_s,
        )
        yield GaugeMetricFamily(
            "mcm_engine_stall_limit_seconds",
            "A heartbeat older than this makes the service unready",
            value=limits.stall_s,
        )
        yield _labelled(
            GaugeMetricFamily,
            "mcm_queue_length",
            "What waits: images for a decoder (decode) and for the model, prompts for the model",
            "queue",
            engine.queue_lengths(),
        )
        used = {
            "images": admission.images_in_use / limits.max_images,
            "bytes": admission.bytes_in_use / limits.max_bytes,
            "prompts": admission.prompts_in_use / limits.max_prompts,
        }
        yield _labelled(
            GaugeMetricFamily, "mcm_admission_used_ratio", "Share of all places that is taken", "places", used
        )

    def _histograms(self) -> Iterator[Metric]:
        stats = self._engine.stats
        decode = HistogramMetricFamily("mcm_decode_seconds", "Time to decode and resize one image", labels=[])
        decode.add_metric([], *_read(stats.decode_s))
        yield decode
        for name, help_, by_kind in (
            ("mcm_queue_seconds", "Time that an image or prompt waits, decoding apart", stats.queue_s),
            ("mcm_forward_seconds", "Time of one batch in the encoder", stats.forward_s),
            ("mcm_batch_size", "Images or prompts in one batch", stats.batch_size),
        ):
            family = HistogramMetricFamily(name, help_, labels=["kind"])
            for lane, histogram in by_kind.items():
                family.add_metric([lane.value], *_read(histogram))
            yield family

    def _caches(self) -> Iterator[Metric]:
        stats, catalog = self._engine.stats, self._catalog
        hits = {"text": stats.cached_texts, "image": stats.cached_images, "detector": catalog.cache_hits}
        misses = {"text": stats.missed_texts, "image": stats.missed_images, "detector": catalog.cache_misses}
        in_use = {**self._engine.cache_bytes, "detector": catalog.cache_bytes}
        yield _labelled(CounterMetricFamily, "mcm_cache_hits", "Found in a cache", "cache", hits)
        yield _labelled(CounterMetricFamily, "mcm_cache_misses", "Not found in a cache", "cache", misses)
        yield _labelled(GaugeMetricFamily, "mcm_cache_bytes", "Memory that a cache takes", "cache", in_use)


def _labelled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    help_: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(name, help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _read(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: each bucket counts what lies below it as well."""
    counts, total = histogram.read()
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True)), total
