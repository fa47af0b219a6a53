"""The HTTP contract: every request and answer as a pydantic model. Used by the client and the server.

Requests refuse unknown keys, so that a misspelt option is an error and not silence; answers ignore
them, so that an older client reads a newer server.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

DETECTOR_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"

DetectorName = Annotated[str, StringConstraints(pattern=DETECTOR_NAME)]
Rate = Annotated[float, Field(gt=0, lt=1)]
ScoreName = Literal["mcm", "max-logit", "energy", "entropy", "variance"]
Method = Literal["split-conformal", "paper"]


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """An answer body. Built from a dataclass of the core with `model_validate(x)`."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


# ---- requests


class ConceptSpec(Request):
    """A concept with prompts of its own; without any, the templates are used."""

    name: str
    prompts: list[str] = []


class Definition(Request):
    """What a detector is made from. What is left out takes the score's defaults."""

    concepts: list[str | ConceptSpec] = Field(min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)
    score: ScoreName = "mcm"
    temperature: Annotated[FiniteFloat, Field(ge=1e-6, le=1e6)] | None = None


class NewDetector(Definition):
    """POST /v1/detectors."""

    name: DetectorName


class ReplacedDetector(Definition):
    """PUT /v1/detectors/{name}; the name, if given, must be the path's."""

    name: DetectorName | None = None


class ConceptsToCheck(Request):
    """POST /v1/concepts/check."""

    concepts: list[str | ConceptSpec] = Field(min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)


class ImageItem(Request):
    """An image in a JSON body: base64, or a data: URI."""

    name: str | None = None
    data: str


class Images(Request):
    """Images in a JSON body; in a multipart body they are files in the field `images`."""

    images: list[ImageItem] | None = Field(default=None, min_length=1)


class ScoreOptions(Images):
    """Options of every scoring route."""

    top_k: int = Field(default=3, ge=0, le=100)
    require_verdict: bool = False


class ScoreRequest(ScoreOptions):
    """POST /v1/detectors/{name}/score: images, or embeddings with the fingerprint of their encoder."""

    embeddings: list[list[float]] | None = Field(default=None, min_length=1)
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _fingerprint_with_embeddings(self) -> "ScoreRequest":
        if (self.embeddings is None) != (self.fingerprint is None):
            raise ValueError("embeddings and fingerprint go together")
        return self


class OneShotRequest(ScoreOptions):
    """POST /v1/score: `concepts` (with the other fields of a definition), or `detectors`, never both."""

    concepts: list[str | ConceptSpec] | None = Field(default=None, min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)
    score: ScoreName | None = None
    temperature: Annotated[FiniteFloat, Field(ge=1e-6, le=1e6)] | None = None
    detectors: list[DetectorName] | None = Field(default=None, min_length=1, max_length=64)

    @model_validator(mode="after")
    def _one_of_two(self) -> "OneShotRequest":
        if (self.concepts is None) == (self.detectors is None):
            raise ValueError("give either concepts or detectors, and not both")
        if self.detectors and any(x is not None for x in (self.templates, self.score, self.temperature)):
            raise ValueError("templates, score and temperature go with concepts, not with detectors")
        return self


class CalibrateRequest(Images):
    """POST /v1/detectors/{name}/calibrate: ID images, or scores with the definition hash that made them."""

    scores: list[FiniteFloat] | None = Field(default=None, min_length=1)
    definition_hash: str | None = None
    method: Method = "split-conformal"
    false_alarm_rate: Rate = 0.05
    confidence: Rate = 0.95

    @model_validator(mode="after")
    def _hash_with_scores(self) -> "CalibrateRequest":
        if (self.scores is None) != (self.definition_hash is None):
            raise ValueError("scores and the definition_hash that made them go together")
        return self


class ThresholdRequest(Request):
    """PUT /v1/detectors/{name}/threshold."""

    threshold: FiniteFloat


class EmbedRequest(Images):
    """POST /v1/embed: images, or texts."""

    texts: list[str] | None = Field(default=None, min_length=1)


# ---- answers


class Problem(BaseModel):
    """An RFC 9457 problem. `type` is stable, `detail` says what was wrong and what to do."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None

    @property
    def code(self) -> str:
        """The last part of `type`, e.g. "not-calibrated"."""
        return self.type.rsplit("/", 1)[-1]


class Notice(Answer):
    """Something that the caller should know; `code` is stable."""

    code: str
    message: str


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


class ModelRef(Answer):
    """Which encoder made an answer."""

    name: str
    fingerprint: str


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
    warnings: list[Notice] = []
    errors: list[ImageProblem] = []


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
    warnings: list[Notice] = []


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


class DetectorFile(Request):
    """The portable detector: GET / PUT /v1/detectors/{name}/file and `--detector-file`.

    `matrix` is base64 of little-endian float32, row by row, of shape (concepts, dim).
    """

    schema_version: Literal[1] = 1
    definition: Definition
    encoder: ModelRef
    dim: int = Field(ge=1)
    matrix: str
    calibration_scores: list[FiniteFloat] = []
    certificate: Certificate | None = None
