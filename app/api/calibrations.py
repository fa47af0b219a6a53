"""Calibrations and thresholds of stored detectors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Depends
from starlette.responses import Response

from app.api import convert
from app.api.answers import json_answer
from app.api.body import Body, body_of
from app.api.common import IfMatch, Measured, Name, Running, etag
from app.api.convert import Outcome
from app.api.definitions import check_scores
from app.api.images import all_failed, embed_uploads, local_of, require_images, rows_of
from app.api.openapi import request_body
from app.api.upload import Upload
from app.catalog import calibration_warnings
from app.errors import InvalidRequest, problem_of
from app.service import Service
from app.settings import Settings
from app.store import StoredDetector
from mcm import calibration as core
from mcm import review, wire
from mcm.advice import Advice
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
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
        new = NewScores(str(options.definition_hash), options.scores, options.concepts)
        return await put_in_force(name, new, options, if_match, service)
    detector = (await service.catalog.get(name)).detector
    outcomes = await embed_uploads(service, body.uploads, work, done="calibrated", detectors=[detector])
    names = [upload.name for upload in body.uploads]
    errors = image_problems(outcomes, names, work.request_id)
    if failed := all_failed(outcomes, errors, work.request_id):
        return failed
    with service.metrics.scoring(work):
        rows, local = rows_of(outcomes, service.encoder.dim), local_of(outcomes, 0)
        verdicts = await anyio.to_thread.run_sync(partial(detector.judge, rows, local=local, top_k=0))
    new = NewScores(
        detector.definition_hash,
        [verdict.score for verdict in verdicts],
        [verdict.concept for verdict in verdicts],
        [(i, names[i]) for i, outcome in enumerate(outcomes) if not isinstance(outcome, McmError)],
        errors,
        await anyio.to_thread.run_sync(copies_among, body.uploads, outcomes),
    )
    return await put_in_force(name, new, options, if_match, service)


@router.get("/v1/detectors/{name}/calibration", response_model=wire.Calibration)
async def calibration(name: Name, service: Running) -> Response:
    """The calibration scores, ascending, and the certificate in force."""
    stored = await service.catalog.stored(name)
    answer = wire.Calibration(
        detector=name,
        revision=stored.revision,
        definition_hash=stored.definition.hash(service.encoder.fingerprint),
        scores=stored.calibration.scores.tolist(),
        groups=convert.groups(stored.calibration.groups),
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
        before = stored.calibration
        return core.manual(body.options.threshold, made_under, before.scores, before.groups)

    stored = await service.catalog.update_calibration(name, manual, if_match=if_match)
    return certificate_response(stored)


@router.delete("/v1/detectors/{name}/threshold", status_code=204)
async def delete_threshold(name: Name, service: Running, if_match: IfMatch) -> Response:
    """Remove the threshold only."""
    await service.catalog.update_calibration(
        name, lambda stored: replace(stored.calibration, certificate=None), if_match=if_match
    )
    return Response(status_code=204)


@dataclass(frozen=True)
class NewScores:
    """Scores to calibrate with, the definition hash that made them, and what there is to say of their images.

    `images`: the place in the request and the name of each score's image; posted scores have none.
    """

    made_under: str
    scores: Sequence[float]
    concepts: Sequence[str] | None
    images: Sequence[tuple[int, str | None]] = ()
    errors: list[wire.ImageProblem] = field(default_factory=list)
    copies: Advice | None = None

    def lowest(self) -> list[wire.LowestScore]:
        """The images to look at."""
        images = self.images or [(i, None) for i in range(len(self.scores))]
        return [
            wire.LowestScore(index=images[i][0], name=images[i][1], score=self.scores[i])
            for i in review.lowest(self.scores)
        ]


@dataclass
class Change:
    """What new scores make of the calibration before, which is kept to compare them with."""

    new: NewScores
    options: wire.CalibrateRequest
    settings: Settings
    before: Calibration = UNCALIBRATED

    def __call__(self, before: Calibration) -> Calibration:
        """The calibration with the new scores: alone, or added to those before.

        Raises:
            TooLarge: more scores than are kept.
            InvalidInput: as `mcm.calibration.calibrate`.
        """
        self.before = before
        append_to = before if self.options.append else UNCALIBRATED
        check_scores(len(self.new.scores) + append_to.scores.size, self.settings)
        given = self.options.model_fields_set & {"method", "false_alarm_rate", "confidence"}
        return core.calibrate(
            self.new.scores,
            self.new.made_under,
            concepts=self._concepts(append_to),
            append_to=append_to,
            **{name: getattr(self.options, name) for name in given},
        )

    def _concepts(self, append_to: Calibration) -> Sequence[str] | None:
        stays = self.options.append and "per_concept" not in self.options.model_fields_set
        if not (append_to.groups is not None if stays else self.options.per_concept):
            return None
        if self.new.concepts is None:
            raise InvalidRequest("per concept, posted scores come with their concepts: send `concepts` too")
        return self.new.concepts


async def put_in_force(
    name: str, new: NewScores, options: wire.CalibrateRequest, if_match: int | None, service: Service
) -> Response:
    """Calibrate with new scores, store it, and tell of the certificate and the images.

    Raises:
        TooLarge: more scores than are kept.
        TooFewScores: the method cannot keep its promise.
        InvalidRequest: concepts that the detector does not have.
        DetectorNotFound, DefinitionMismatch, RevisionMismatch: as `Store.set_calibration`.
    """
    check_scores(len(new.scores), service.settings)
    definition = (await service.catalog.stored(name)).definition
    if definition.hash(service.encoder.fingerprint) == new.made_under:  # else that is the error to tell
        check_known(new.concepts or (), definition)
    change = Change(new, options, service.settings)
    stored = await service.catalog.set_calibration(name, new.made_under, change, if_match=if_match)
    scores = np.asarray(new.scores, dtype=np.float64)
    share = review.share_against(change.before, scores, new.concepts)
    told = review.advice(change.before, scores, share, appended=options.append)
    if new.copies is not None:
        told.append(new.copies)
    answer = convert.certificate_answer(stored, [*calibration_warnings(stored), *told], new.errors)
    more = {"lowest": new.lowest(), "ood_share": share}
    return json_answer(answer.model_copy(update=more), headers=etag(stored.revision))


def certificate_response(stored: StoredDetector) -> Response:
    """The certificate now in force."""
    answer = convert.certificate_answer(stored, calibration_warnings(stored), [])
    return json_answer(answer, headers=etag(stored.revision))


def check_known(concepts: Sequence[str], definition: Definition) -> None:
    """Refuse concepts that are not the definition's."""
    if unknown := set(concepts) - set(definition.names):
        raise InvalidRequest(f"the detector has no concept {min(unknown)!r:.80}")


def copies_among(uploads: Sequence[Upload], outcomes: Sequence[Outcome]) -> Advice | None:
    """What to know of images that are given more than once, among those that could be used."""
    copies = review.Copies()
    for i, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True)):
        if isinstance(upload.data, bytes) and not isinstance(outcome, McmError):
            copies.add(upload.name or f"image {i}", review.digest_of(upload.data))
    return copies.advice


def image_problems(
    outcomes: Sequence[Outcome], names: Sequence[str | None], request_id: str
) -> list[wire.ImageProblem]:
    """The images that could not be used."""
    return [
        wire.ImageProblem(index=i, name=name, error=problem_of(outcome, request_id))
        for i, (outcome, name) in enumerate(zip(outcomes, names, strict=True))
        if isinstance(outcome, McmError)
    ]
