"""From the core's data to the wire; written out, so that neither leaks into the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.errors import problem_of
from app.store import StoredDetector, StoredSummary
from mcm import wire
from mcm.advice import Advice
from mcm.calibration import Certificate
from mcm.detector import Local, Verdict
from mcm.embeddings import Vectors
from mcm.encoders import Encoder
from mcm.errors import McmError
from mcm.mining import MiningReport
from mcm.mondrian import Groups


@dataclass(frozen=True, eq=False)
class Seen:
    """An image's embedding, and what its patches say under each detector of the request that asks them."""

    embedding: Vectors
    local: tuple[Local | None, ...]


Outcome = Vectors | Seen | McmError  # an image's embedding, or why there is none


def embedding_of(outcome: Vectors | Seen) -> Vectors:
    """The embedding of a good image."""
    return outcome.embedding if isinstance(outcome, Seen) else outcome


def model_ref(encoder: Encoder) -> wire.ModelRef:
    """Which encoder made an answer."""
    return wire.ModelRef(name=encoder.name, fingerprint=encoder.fingerprint)


def notices(advice: Iterable[Advice]) -> list[wire.Notice]:
    """Warnings."""
    return [wire.Notice(code=a.code, message=a.message) for a in advice]


def detector_answer(
    stored: StoredDetector, encoder: Encoder, warnings: Iterable[Advice], mining: MiningReport | None
) -> wire.Detector:
    """A stored detector, as the encoder that runs sees it."""
    return wire.Detector(
        name=stored.name,
        definition=wire.DefinitionAnswer.model_validate(stored.definition.to_json()),
        definition_hash=stored.definition.hash(encoder.fingerprint),
        revision=stored.revision,
        model=model_ref(encoder),
        certificate=certificate(stored.calibration.certificate),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        warnings=notices(warnings),
        mining=None if mining is None else wire.Mining.model_validate(mining),
    )


def summary(stored: StoredSummary, encoder: Encoder) -> wire.DetectorSummary:
    """A detector in a list."""
    return wire.DetectorSummary(
        name=stored.name,
        revision=stored.revision,
        score=stored.score,
        concepts=stored.k,
        definition_hash=stored.definition.hash(encoder.fingerprint),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def certificate(found: Certificate | None) -> wire.Certificate | None:
    """A certificate, or none."""
    return None if found is None else wire.Certificate.model_validate(found)


def groups(found: Groups | None) -> wire.Groups | None:
    """The concepts of calibration scores, or none."""
    return None if found is None else wire.Groups.model_validate(found)


def certificate_answer(
    stored: StoredDetector, warnings: Iterable[Advice], errors: list[wire.ImageProblem]
) -> wire.CertificateAnswer:
    """The certificate that a write has just put in force."""
    found = wire.Certificate.model_validate(stored.calibration.certificate)
    return wire.CertificateAnswer(
        **found.model_dump(),
        detector=stored.name,
        revision=stored.revision,
        warnings=notices(warnings),
        errors=errors,
    )


def results(
    outcomes: Sequence[Outcome],
    names: Sequence[str | None],
    verdicts: Iterable[Verdict],
    request_id: str,
    *,
    per_concept: bool,
    explain: bool,
) -> list[wire.Result]:
    """One result an image, in order: its verdict, or its error in its place."""
    remaining = iter(verdicts)
    return [
        failed(i, name, outcome, request_id)
        if isinstance(outcome, McmError)
        else succeeded(i, name, next(remaining), per_concept, explain)
        for i, (outcome, name) in enumerate(zip(outcomes, names, strict=True))
    ]


def succeeded(
    index: int, name: str | None, verdict: Verdict, per_concept: bool, explain: bool
) -> wire.Result:
    """The result of an image that was scored; it says its threshold where each concept has its own."""
    return wire.Result(
        index=index,
        name=name,
        score=verdict.score,
        lift=verdict.lift,
        p_value=verdict.p_value,
        threshold=verdict.threshold if per_concept else None,
        is_ood=verdict.is_ood,
        concept=verdict.concept,
        top=[wire.Match.model_validate(match) for match in verdict.top],
        negative=verdict.negative,
        explain=explanation(verdict) if explain else None,
    )


def explanation(verdict: Verdict) -> wire.Explanation | None:
    """Where the verdict's concept matches, in as many digits as float32 has."""
    if verdict.local is None:
        return None
    rows = verdict.local.similarities.tolist()
    return wire.Explanation(
        concept=verdict.concept, rows=[[round(cosine, 7) for cosine in row] for row in rows]
    )


def failed(index: int, name: str | None, error: McmError, request_id: str) -> wire.Result:
    """The result of an image that could not be scored."""
    return wire.Result(index=index, name=name, error=problem_of(error, request_id))


def embed_result(index: int, name: str | None, outcome: Outcome, request_id: str) -> wire.EmbedResult:
    """An embedding, or why there is none."""
    if isinstance(outcome, McmError):
        return wire.EmbedResult(index=index, name=name, error=problem_of(outcome, request_id))
    return wire.EmbedResult(index=index, name=name, embedding=[float(x) for x in embedding_of(outcome)])
