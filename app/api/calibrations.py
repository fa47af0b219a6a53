"""Calibrations and thresholds of stored detectors."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends
from starlette.responses import Response

from app.api import convert
from app.api.answers import json_answer
from app.api.body import Body, body_of
from app.api.common import IfMatch, Measured, Name, Running, etag
from app.api.convert import Outcome
from app.api.definitions import check_scores
from app.api.images import all_failed, embed_uploads, require_images, rows_of
from app.api.openapi import request_body
from app.catalog import calibration_warnings
from app.errors import problem_of
from app.service import Service
from app.store import StoredDetector
from mcm import calibration as core
from mcm import wire
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.errors import McmError

router = APIRouter(tags=["thresholds"])


@router.post(
    "/v1/detectors/{name}/calibrate",
    response_model=wire.CertificateAnswer,
    openapi_extra=request_body(wire.CalibrateRequest),
)
async def calibrate(
    name: Name,
    work: Measured,
    body: Annotated[Body[wire.CalibrateRequest], Depends(body_of(wire.CalibrateRequest))],
    service: Running,
    if_match: IfMatch,
) -> Response:
    """Calibrate with in-distribution images, or with the scores that they got here."""
    options = body.options
    require_images(body.uploads, options.scores, "scores with their definition_hash")
    if options.scores is not None:
        scores, made_under, errors = options.scores, str(options.definition_hash), []
    else:
        detector = (await service.catalog.get(name)).detector
        outcomes = await embed_uploads(service, body.uploads, work, done="calibrated")
        errors = image_problems(outcomes, [upload.name for upload in body.uploads], work.request_id)
        if failed := all_failed(outcomes, errors, work.request_id):
            return failed
        with service.metrics.scoring(work):
            rows = rows_of(outcomes, service.encoder.dim)
            scores = (await anyio.to_thread.run_sync(detector.scores, rows)).tolist()
        made_under = detector.definition_hash
    stored = await put_in_force(name, scores, made_under, options, if_match, service)
    return certificate_response(stored, errors)


@router.get("/v1/detectors/{name}/calibration", response_model=wire.Calibration)
async def calibration(name: Name, service: Running) -> Response:
    """The calibration scores, ascending, and the certificate in force."""
    stored = await service.catalog.stored(name)
    answer = wire.Calibration(
        detector=name,
        revision=stored.revision,
        definition_hash=stored.definition.hash(service.encoder.fingerprint),
        scores=stored.calibration.scores.tolist(),
        certificate=convert.certificate(stored.calibration.certificate),
    )
    return json_answer(answer, headers=etag(stored.revision))


@router.delete("/v1/detectors/{name}/calibration", status_code=204)
async def delete_calibration(name: Name, service: Running, if_match: IfMatch) -> Response:
    """Remove calibration scores and threshold."""
    await service.catalog.update_calibration(name, lambda _: UNCALIBRATED, if_match=if_match)
    return Response(status_code=204)


@router.put(
    "/v1/detectors/{name}/threshold",
    response_model=wire.CertificateAnswer,
    openapi_extra=request_body(wire.ThresholdRequest),
)
async def set_threshold(
    name: Name,
    body: Annotated[Body[wire.ThresholdRequest], Depends(body_of(wire.ThresholdRequest))],
    service: Running,
    if_match: IfMatch,
) -> Response:
    """Set a threshold by hand. Calibration scores, and so p-values, stay."""

    def manual(stored: StoredDetector) -> Calibration:
        made_under = stored.definition.hash(service.encoder.fingerprint)
        return core.manual(body.options.threshold, made_under, stored.calibration.scores)

    stored = await service.catalog.update_calibration(name, manual, if_match=if_match)
    return certificate_response(stored, [])


@router.delete("/v1/detectors/{name}/threshold", status_code=204)
async def delete_threshold(name: Name, service: Running, if_match: IfMatch) -> Response:
    """Remove the threshold only."""
    await service.catalog.update_calibration(
        name, lambda stored: Calibration(stored.calibration.scores, None), if_match=if_match
    )
    return Response(status_code=204)


async def put_in_force(
    name: str,
    scores: Sequence[float],
    made_under: str,
    options: wire.CalibrateRequest,
    if_match: int | None,
    service: Service,
) -> StoredDetector:
    """Calibrate with scores made under the definition hash `made_under`, and store it.

    Raises:
        TooLarge: more scores than are kept.
        TooFewScores: the method cannot keep its promise.
        DetectorNotFound, DefinitionMismatch, RevisionMismatch: as `Store.set_calibration`.
    """
    check_scores(len(scores), service.settings)
    await service.catalog.stored(name)  # no such detector? then that is the error to tell
    run = partial(core.calibrate, method=options.method, false_alarm_rate=options.false_alarm_rate)
    new = await anyio.to_thread.run_sync(run, scores, made_under)
    return await service.catalog.set_calibration(name, made_under, new, if_match=if_match)


def certificate_response(stored: StoredDetector, errors: list[wire.ImageProblem]) -> Response:
    """The certificate now in force."""
    answer = convert.certificate_answer(stored, calibration_warnings(stored), errors)
    return json_answer(answer, headers=etag(stored.revision))


def image_problems(
    outcomes: Sequence[Outcome], names: Sequence[str | None], request_id: str
) -> list[wire.ImageProblem]:
    """The images that could not be used."""
    return [
        wire.ImageProblem(index=i, name=name, error=problem_of(outcome, request_id))
        for i, (outcome, name) in enumerate(zip(outcomes, names, strict=True))
        if isinstance(outcome, McmError)
    ]
