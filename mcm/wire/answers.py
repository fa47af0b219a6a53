"""Every answer body."""

from datetime import datetime

from pydantic import Field

from mcm.wire.base import Answer, ModelRef, Notice, Problem
from mcm.wire.requests import ConceptSpec


class Model(Answer):
    """An encoder that runs."""

    name: str
    fingerprint: str
    dim: int
    device: str
    dtype: str
    activation: str
    image_size: int
    max_text_tokens: int
    note: str


class Models(Answer):
    """GET /v1/models."""

    models: list[Model]


class Match(Answer):
    """How one concept compares with the image."""

    concept: str
    similarity: float
    probability: float


class Result(Answer):
    """One image's score and verdict, or its error and null elsewhere."""

    index: int
    name: str | None
    score: float | None = None
    lift: float | None = None
    p_value: float | None = None
    is_ood: bool | None = None
    concept: str | None = None
    top: list[Match] | None = None
    error: Problem | None = None


class ScoreAnswer(Answer):
    """The answer to every scoring route."""

    detector: str | None
    revision: int | None
    definition_hash: str
    model: ModelRef
    score_name: str
    threshold: float | None
    warnings: list[Notice]
    results: list[Result]


class ScoreAnswers(Answer):
    """The answer to POST /v1/score with `detectors`, in their order."""

    answers: list[ScoreAnswer]


class Certificate(Answer):
    """A threshold and what it promises; rates are fractions."""

    threshold: float
    method: str
    false_alarm_rate: float | None
    confidence: float | None
    n: int
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None
    promise: str | None
    created_at: datetime
    definition_hash: str


class ImageProblem(Answer):
    """A calibration image that could not be used."""

    index: int
    name: str | None
    error: Problem


class CertificateAnswer(Certificate):
    """POST .../calibrate and PUT .../threshold: the certificate now in force."""

    detector: str
    revision: int
    warnings: list[Notice] = Field(default=[])
    errors: list[ImageProblem] = Field(default=[])


class Calibration(Answer):
    """GET /v1/detectors/{name}/calibration."""

    detector: str
    revision: int
    definition_hash: str
    scores: list[float]
    certificate: Certificate | None


class DefinitionAnswer(Answer):
    """A definition, complete: nothing is left to defaults."""

    concepts: list[str | ConceptSpec]
    templates: list[str]
    score: str
    temperature: float


class Detector(Answer):
    """A named, stored definition and what is in force under the encoder that runs."""

    name: str
    definition: DefinitionAnswer
    definition_hash: str
    revision: int
    model: ModelRef
    certificate: Certificate | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice] = Field(default=[])


class DetectorSummary(Answer):
    """A detector in a list; `concepts` is their number."""

    name: str
    revision: int
    score: str
    concepts: int
    definition_hash: str
    created_at: datetime
    updated_at: datetime


class DetectorPage(Answer):
    """GET /v1/detectors; `next_cursor` is null on the last page."""

    detectors: list[DetectorSummary]
    next_cursor: str | None


class SynonymPair(Answer):
    """Two differently named concepts with nearly the same embedding."""

    first: str
    second: str
    cosine: float


class CutPrompt(Answer):
    """A prompt whose end the encoder ignores."""

    concept: str
    prompt: str


class ConceptsChecked(Answer):
    """POST /v1/concepts/check."""

    duplicates: list[list[str]]
    near_synonyms: list[SynonymPair]
    cut_prompts: list[CutPrompt]
    warnings: list[Notice]


class EmbedResult(Answer):
    """One image's or text's embedding, or its error."""

    index: int
    name: str | None
    embedding: list[float] | None = None
    error: Problem | None = None


class Embedded(Answer):
    """POST /v1/embed."""

    model: ModelRef
    results: list[EmbedResult]


class Status(Answer):
    """GET /healthz and /readyz."""

    status: str
    detail: str | None = None
