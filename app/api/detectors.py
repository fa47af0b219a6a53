"""Detectors: create, replace, read, list, delete, move as files; and a look at concepts before that."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from app.api import convert
from app.api.answers import json_answer
from app.api.body import Body, body_of
from app.api.common import IfMatch, Name, Running, etag
from app.api.definitions import check_name, check_scores, definition_of
from app.api.openapi import request_body
from app.service import Service
from app.store import Replaced, StoredDetector
from mcm import wire
from mcm.advice import Advice, cut_concepts, near_synonyms
from mcm.calibration import UNCALIBRATED
from mcm.definition import duplicate_concepts
from mcm.detector_file import from_file, to_file

router = APIRouter(tags=["detectors"])
CALIBRATION_DROPPED = Advice(
    "calibration-dropped", "the old calibration and threshold are gone: what was put here brings none of them"
)
OTHER_ENCODER_FILE = Advice(
    "imported-without-calibration",
    "another encoder made this file: its calibration does not hold here and was left out; calibrate again",
)


@router.post(
    "/v1/detectors",
    status_code=201,
    response_model=wire.Detector,
    openapi_extra=request_body(wire.NewDetector),
)
async def create(
    body: Annotated[Body[wire.NewDetector], Depends(body_of(wire.NewDetector))], service: Running
) -> Response:
    """Create a detector. 409 if the name is taken."""
    definition = await definition_of(body.options, service, max_prompts=service.settings.max_prompts)
    stored = await service.catalog.create(body.options.name, definition)
    return await detector_response(stored, service, created=True, put=True)


@router.put(
    "/v1/detectors/{name}", response_model=wire.Detector, openapi_extra=request_body(wire.ReplacedDetector)
)
async def replace(
    name: Name,
    body: Annotated[Body[wire.ReplacedDetector], Depends(body_of(wire.ReplacedDetector))],
    service: Running,
    if_match: IfMatch,
) -> Response:
    """Create or replace a detector. The same definition changes nothing."""
    check_name(name, body.options.name)
    definition = await definition_of(body.options, service, max_prompts=service.settings.max_prompts)
    return await replaced_response(
        await service.catalog.replace(name, definition, if_match=if_match), service
    )


@router.get("/v1/detectors", response_model=wire.DetectorPage)
async def detectors(
    service: Running,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(pattern=wire.DETECTOR_NAME)] = None,
) -> Response:
    """Detectors in the order of their names, page by page."""
    found, following = await service.catalog.page(limit, cursor)
    # in a thread, since each summary hashes its definition
    answers = await anyio.to_thread.run_sync(lambda: [convert.summary(s, service.encoder) for s in found])
    return json_answer(wire.DetectorPage(detectors=answers, next_cursor=following))


@router.get("/v1/detectors/{name}", response_model=wire.Detector)
async def detector(name: Name, service: Running) -> Response:
    """A detector: definition, hash, revision, certificate, warnings."""
    return await detector_response(await service.catalog.stored(name), service)


@router.delete("/v1/detectors/{name}", status_code=204)
async def delete(name: Name, service: Running, if_match: IfMatch) -> Response:
    """Delete a detector with its calibrations."""
    await service.catalog.delete(name, if_match=if_match)
    service.metrics.forget_detector(name)
    if service.drift is not None:
        service.drift.forget(name)
    return Response(status_code=204)


@router.get("/v1/detectors/{name}/file", response_model=wire.DetectorFile)
async def export_file(name: Name, service: Running) -> Response:
    """The portable detector, to keep in git, move or judge with elsewhere."""
    named = await service.catalog.get(name)
    file = await anyio.to_thread.run_sync(to_file, named.detector, service.encoder.name)
    return json_answer(file, headers=etag(named.stored.revision))


@router.put(
    "/v1/detectors/{name}/file", response_model=wire.Detector, openapi_extra=request_body(wire.DetectorFile)
)
async def import_file(
    name: Name,
    body: Annotated[Body[wire.DetectorFile], Depends(body_of(wire.DetectorFile))],
    service: Running,
    if_match: IfMatch,
) -> Response:
    """Create or replace a detector from a file. Its prompts are encoded again, so that no file can lie."""
    given = await anyio.to_thread.run_sync(from_file, body.options)
    await definition_of(body.options.definition, service, max_prompts=service.settings.max_prompts)
    check_scores(len(body.options.calibration_scores), service.settings)
    calibration, encoding, warnings = UNCALIBRATED, None, [OTHER_ENCODER_FILE]
    if given.fingerprint == service.encoder.fingerprint:
        encoding = await service.catalog.encodings.check(given)
        calibration, warnings = given.calibration, []
    replaced = await service.catalog.replace(
        name, given.definition, if_match=if_match, calibration=calibration, encoding=encoding
    )
    return await replaced_response(replaced, service, *warnings)


@router.post(
    "/v1/concepts/check",
    response_model=wire.ConceptsChecked,
    openapi_extra=request_body(wire.ConceptsToCheck),
)
async def check(
    body: Annotated[Body[wire.ConceptsToCheck], Depends(body_of(wire.ConceptsToCheck))], service: Running
) -> Response:
    """What to know of concepts before making a detector: duplicates, near-synonyms, cut prompts."""
    limit = service.settings.max_one_shot_prompts
    definition = await definition_of(body.options, service, max_prompts=limit)
    matrix = (await service.catalog.encodings.make(definition)).matrix
    synonyms = await anyio.to_thread.run_sync(near_synonyms, definition, matrix)
    cut = await service.catalog.advisor.cut_prompts(definition)
    answer = wire.ConceptsChecked(
        duplicates=[list(group) for group in duplicate_concepts(definition.names)],
        near_synonyms=[wire.SynonymPair.model_validate(pair) for pair in synonyms],
        cut_prompts=[
            wire.CutPrompt(concept=name, prompt=prompt)
            for name, prompt in cut_concepts(definition, lambda texts: [text in cut for text in texts])
        ],
        warnings=convert.notices(await service.catalog.advisor.advice(definition)),
    )
    return json_answer(answer)


async def detector_response(
    stored: StoredDetector, service: Service, *more: Advice, created: bool = False, put: bool = False
) -> Response:
    """A detector with its revision as ETag; when new, its Location; when put, how negatives were found."""
    warnings = (*more, *await service.catalog.advice(stored))
    headers = etag(stored.revision)
    if created:
        headers["Location"] = f"/v1/detectors/{stored.name}"
    mining = service.catalog.encodings.report(stored.definition) if put else None
    answer = convert.detector_answer(stored, service.encoder, warnings, mining)
    return json_answer(answer, 201 if created else 200, headers)


async def replaced_response(replaced: Replaced, service: Service, *more: Advice) -> Response:
    """What a PUT did; says so when a calibration went with the old definition."""
    dropped = (CALIBRATION_DROPPED,) if replaced.dropped_calibration else ()
    return await detector_response(
        replaced.stored, service, *more, *dropped, created=replaced.created, put=True
    )
