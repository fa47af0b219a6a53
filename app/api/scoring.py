"""Scores and embeddings: named detectors, one shot, many detectors at once."""

from collections.abc import Callable, Sequence
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends
from starlette.responses import Response

from app.api import convert
from app.api.answers import json_answer
from app.api.body import Body, body_of
from app.api.common import Measured, Name, Running
from app.api.convert import Outcome
from app.api.definitions import check_lengths, definition_of
from app.api.images import all_failed, embed_uploads, local_of, require_images, rows_of
from app.api.openapi import request_body
from app.catalog import NamedDetector
from app.errors import InvalidRequest, TooLarge
from app.metrics import Work
from app.service import Service
from mcm import wire
from mcm.advice import Advice
from mcm.definition import check_text
from mcm.detector import Detector
from mcm.discoveries import with_discoveries
from mcm.embeddings import unit_rows
from mcm.fdr import require_p_values

router = APIRouter(tags=["score"])
MAX_MATCHES = 200_000  # in one answer, which is written in one piece: 20 MB, a fifth of a second


@router.post(
    "/v1/detectors/{name}/score",
    response_model=wire.ScoreAnswer,
    openapi_extra=request_body(wire.ScoreRequest),
)
async def score(
    name: Name,
    work: Measured,
    body: Annotated[Body[wire.ScoreRequest], Depends(body_of(wire.ScoreRequest))],
    service: Running,
) -> Response:
    """Score images, or embeddings of images, with a stored detector."""
    named = await service.catalog.get(name)
    require_calibration([named.detector], body.options)
    require_images(body.uploads, body.options.embeddings, "embeddings")
    check_matches(len(body.uploads or body.options.embeddings or ()), 1, body.options.top_k)
    if body.options.embeddings is not None:
        names, outcomes = await given_embeddings(body.options, named.detector, service)
    else:
        names, outcomes = await images(body, service, work, [named.detector])
    answer = await score_answer(named.detector, outcomes, names, body.options, work, service, named=named)
    return all_failed(outcomes, answer.results, work.request_id) or json_answer(answer)


@router.post(
    "/v1/score",
    response_model=wire.ScoreAnswer | wire.ScoreAnswers,
    openapi_extra=request_body(wire.OneShotRequest),
)
async def score_once(
    work: Measured,
    body: Annotated[Body[wire.OneShotRequest], Depends(body_of(wire.OneShotRequest))],
    service: Running,
) -> Response:
    """Score images in one shot: against concepts that are stored nowhere, or with several detectors."""
    require_images(body.uploads)
    if body.options.detectors is not None:
        return await score_with_detectors(body, body.options.detectors, service, work)
    limit = service.settings.max_one_shot_prompts
    definition = await definition_of(body.options, service, max_prompts=limit)
    made = await service.catalog.encodings.make(definition, work.timings)
    fingerprint = service.encoder.fingerprint
    detector = Detector(definition, fingerprint, made.matrix, negatives=made.negatives)
    require_calibration([detector], body.options)
    names, outcomes = await images(body, service, work, [detector])
    warnings = await service.catalog.advisor.advice(definition)
    answer = await score_answer(detector, outcomes, names, body.options, work, service, warnings=warnings)
    return all_failed(outcomes, answer.results, work.request_id) or json_answer(answer)


async def score_with_detectors(
    body: Body[wire.OneShotRequest], wanted: Sequence[str], service: Service, work: Work
) -> Response:
    """One encode for all detectors; their answers in order."""
    check_matches(len(body.uploads), len(wanted), body.options.top_k)
    detectors = await service.catalog.get_all(wanted)
    require_calibration([named.detector for named in detectors], body.options)
    names, outcomes = await images(body, service, work, [named.detector for named in detectors])

    def judge() -> list[wire.ScoreAnswer]:
        return [
            judged(named.detector, outcomes, names, body.options, work, service, named=named, place=place)
            for place, named in enumerate(detectors)
        ]

    answers = await in_thread(judge, service)
    failed = all_failed(outcomes, answers[0].results, work.request_id)
    return failed or json_answer(wire.ScoreAnswers(answers=answers))


@router.post("/v1/embed", response_model=wire.Embedded, openapi_extra=request_body(wire.EmbedRequest))
async def embed(
    work: Measured,
    body: Annotated[Body[wire.EmbedRequest], Depends(body_of(wire.EmbedRequest))],
    service: Running,
) -> Response:
    """Embed images or texts."""
    texts = body.options.texts
    require_images(body.uploads, texts, "texts")
    if texts is None:
        names = [upload.name for upload in body.uploads]
        outcomes = await embed_uploads(service, body.uploads, work, done="embedded")
    else:
        check_texts(texts, service)
        names = [None] * len(texts)
        outcomes = list(await service.engine.embed_texts(texts, timings=work.timings))
    results = [
        convert.embed_result(i, name, outcome, work.request_id)
        for i, (name, outcome) in enumerate(zip(names, outcomes, strict=True))
    ]
    answer = wire.Embedded(model=convert.model_ref(service.encoder), results=results)
    return all_failed(outcomes, results, work.request_id) or json_answer(answer)


async def images(
    body: Body[wire.ScoreOptions], service: Service, work: Work, detectors: Sequence[Detector]
) -> tuple[list[str | None], list[Outcome]]:
    """Names of the images of a request, and their embeddings or errors, with what the detectors need."""
    explain = body.options.explain
    outcomes = await embed_uploads(
        service, body.uploads, work, done="scored", detectors=detectors, explain=explain
    )
    return [upload.name for upload in body.uploads], outcomes


async def given_embeddings(
    options: wire.ScoreRequest, detector: Detector, service: Service
) -> tuple[list[str | None], list[Outcome]]:
    """The embeddings that a request carries, normalised; they have no names.

    Raises:
        EncoderMismatch: another encoder made them.
        InvalidEmbeddings: wrong length, zero or not finite.
    """
    embeddings = options.embeddings or []
    if len(embeddings) > service.settings.max_embeddings:
        raise TooLarge(
            f"{len(embeddings)} embeddings are more than the {service.settings.max_embeddings} of a request"
        )
    detector.require_encoder(options.fingerprint or "")
    rows = await anyio.to_thread.run_sync(unit_rows, embeddings, service.encoder.dim)
    return [None] * len(rows), list(rows)


async def score_answer(
    detector: Detector,
    outcomes: list[Outcome],
    names: Sequence[str | None],
    options: wire.ScoreOptions,
    work: Work,
    service: Service,
    *,
    named: NamedDetector | None = None,
    warnings: Sequence[Advice] = (),
) -> wire.ScoreAnswer:
    """What one detector says of the embeddings."""

    def judge() -> list[wire.ScoreAnswer]:
        return [judged(detector, outcomes, names, options, work, service, named=named, warnings=warnings)]

    return (await in_thread(judge, service))[0]


async def in_thread(judge: Callable[[], list[wire.ScoreAnswer]], service: Service) -> list[wire.ScoreAnswer]:
    """Answers from a thread, since thousands of concepts take their time; their verdicts are counted."""
    answers = await anyio.to_thread.run_sync(judge)
    for answer in answers:
        good = [result.is_ood for result in answer.results if result.error is None]
        service.metrics.count_verdicts(answer.detector, good)
    return answers


def judged(
    detector: Detector,
    outcomes: list[Outcome],
    names: Sequence[str | None],
    options: wire.ScoreOptions,
    work: Work,
    service: Service,
    *,
    named: NamedDetector | None = None,
    warnings: Sequence[Advice] = (),
    place: int = 0,
) -> wire.ScoreAnswer:
    """Judge the embeddings with one detector, the one at `place` among the request's."""
    with service.metrics.scoring(work):
        rows, local = rows_of(outcomes, service.encoder.dim), local_of(outcomes, place)
        verdicts = detector.judge(rows, local=local, top_k=options.top_k)
    if named is not None and service.drift is not None:
        service.drift.observe(named, verdicts)
    answer = wire.ScoreAnswer(
        detector=named.stored.name if named else None,
        revision=named.stored.revision if named else None,
        definition_hash=detector.definition_hash,
        model=convert.model_ref(service.encoder),
        score_name=detector.definition.score,
        threshold=detector.threshold,
        warnings=convert.notices(named.warnings if named else warnings),
        results=convert.results(
            outcomes,
            names,
            verdicts,
            work.request_id,
            per_concept=detector.calibration.by_concept,
            explain=options.explain,
        ),
    )
    if options.fdr is None:
        return answer
    return with_discoveries(answer, detector.calibration, options.fdr, options.fdr_method)


def require_calibration(detectors: Sequence[Detector], options: wire.ScoreOptions) -> None:
    """Refuse, before any work, to give verdicts or discoveries for want of a calibration.

    Raises:
        NotCalibrated: a detector has no threshold, or no calibration scores.
    """
    for detector in detectors:
        if options.require_verdict:
            detector.require_threshold()
        if options.fdr is not None:
            require_p_values(detector.calibration)


def check_matches(images: int, detectors: int, top_k: int) -> None:
    """Refuse an answer that would list too many concepts.

    Raises:
        InvalidRequest: more than MAX_MATCHES.
    """
    if (matches := images * detectors * top_k) > MAX_MATCHES:
        raise InvalidRequest(
            f"{images} images x {detectors} detectors x top_k {top_k} would list {matches} concepts; "
            f"at most {MAX_MATCHES} are: send a smaller top_k"
        )


def check_texts(texts: Sequence[str], service: Service) -> None:
    """Refuse texts to embed that are too many, too long, blank or carry control characters."""
    limit = service.settings.max_one_shot_prompts
    if len(texts) > limit:
        raise InvalidRequest(f"{len(texts)} texts are more than the {limit} of a request")
    check_lengths(texts, service.settings, "text")
    for i, text in enumerate(texts):
        check_text(text, f"text {i}")
