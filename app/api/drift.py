"""Drift of stored detectors."""

from math import log, log10

import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.common import Name, Running, etag
from app.errors import DriftOff
from app.service import Service
from app.store import StoredDetector, StoredDrift
from mcm import wire
from mcm.drift import FALSE_ALARM, Drift, Tally, begin, bins_of, rejected_band
from mcm.thresholds import percent

router = APIRouter(tags=["thresholds"])
FEW = 100  # images: shares of fewer say little


@router.get("/v1/detectors/{name}/drift", response_model=wire.Drift)
async def drift(name: Name, service: Running) -> Response:
    """Whether the images scored since the calibration still look like it. 409 where that is not watched."""
    stored = await service.catalog.stored(name)
    if service.drift is None:
        raise DriftOff("drift is not watched here: start the service with MCM_DRIFT=1, which keeps counts")
    nothing = begin(bins_of(stored.calibration))
    kept = await service.drift.current(name)
    answer = await anyio.to_thread.run_sync(drift_answer, stored, kept, nothing, service)
    return json_answer(answer, headers=etag(stored.revision))


def drift_answer(
    stored: StoredDetector, kept: StoredDrift | None, nothing: Drift, service: Service
) -> wire.Drift:
    """What is kept of a detector's images, for an operator."""
    seen = nothing if kept is None else kept.drift
    recent = recent_images(stored, seen.recent)
    return wire.Drift(
        detector=stored.name,
        revision=stored.revision,
        definition_hash=stored.definition.hash(service.encoder.fingerprint),
        calibration_images=stored.calibration.scores.size,
        images=seen.images,
        since=None if kept is None else kept.since,
        updated_at=None if kept is None else kept.updated_at,
        recent=recent,
        log10_wealth=round(seen.log_wealth / log(10), 6) + 0.0,  # no -0.0
        log10_alarm_wealth=-log10(FALSE_ALARM),
        alarm=seen.alarm_after is not None,
        alarm_at=None if kept is None else kept.alarm_at,
        alarm_after=seen.alarm_after,
        false_alarm_probability=FALSE_ALARM,
        summary=in_words(seen, recent),
    )


def recent_images(stored: StoredDetector, tally: Tally) -> wire.RecentImages:
    """The shares of the recent images; those of verdicts only if there are verdicts."""
    return wire.RecentImages(
        images=tally.images,
        rejected_share=None if stored.calibration.certificate is None else tally.rejected_share,
        rejected_band=rejected_band(stored.calibration, tally.images),
        ood_share=tally.ood_share,
    )


def in_words(seen: Drift, recent: wire.RecentImages) -> str:
    """What it all means."""
    if seen.images == 0:
        return "No images have been scored since the calibration."
    told = [_alarm_in_words(seen)]
    if recent.rejected_share is not None:
        told.append(f"Of the last {recent.images} images {percent(recent.rejected_share)} were called OOD.")
    if recent.rejected_band is not None:
        low, high = recent.rejected_band
        told.append(f"Without drift it would be {percent(low)} to {percent(high)}, 19 times in 20.")
    if recent.ood_share is not None and recent.images >= FEW:
        told.append(f"About {percent(recent.ood_share)} of them, or more, are estimated to be OOD.")
    return " ".join(told)


def _alarm_in_words(seen: Drift) -> str:
    chance = f"the chance that this alarm is ever raised without drift is at most {percent(FALSE_ALARM)}"
    if seen.alarm_after is None:
        return f"No drift is shown by the {seen.images} images since the calibration ({chance})."
    return (
        f"ALARM: the images no longer look like the calibration images, shown after {seen.alarm_after} of "
        f"{seen.images} images ({chance}). Look at what is called OOD; where the new images belong, "
        "calibrate again with them, which also begins a new watch."
    )
