"""Every answer body."""

from datetime import datetime
from operator import not_

from pydantic import Field

from mcm.wire.base import Answer, ModelRef, Notice, Problem, is_none
from mcm.wire.requests import ConceptSpec, Negatives


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


class Explanation(Answer):
    """Where in the image the concept matches: the similarities of a grid of its parts, from the top left.

    Each of `rows` goes from left to right over the part of the image that the encoder sees.
    """

    concept: str
    rows: list[list[float]]


class Result(Answer):
    """One image's score and verdict, or its error and null elsewhere.

    `threshold` is there where the calibration is per concept, `discovery` where `fdr` was asked for, and
    `explain` where it was; `negative`, the negative word that is most similar to the image, with `neglabel`.
    """

    index: int
    name: str | None
    score: float | None = None
    lift: float | None = None
    p_value: float | None = None
    threshold: float | None = Field(default=None, exclude_if=is_none)
    is_ood: bool | None = None
    discovery: bool | None = Field(default=None, exclude_if=is_none)
    concept: str | None = None
    top: list[Match] | None = None
    negative: str | None = Field(default=None, exclude_if=is_none)
    explain: Explanation | None = Field(default=None, exclude_if=is_none)
    error: Problem | None = None


class Fdr(Answer):
    """What `discovery` means: the `discoveries` among `m` images have a false discovery rate of at most `q`.

    `smallest_possible` is the smallest number of discoveries possible at all, null if none is.
    """

    q: float
    method: str
    m: int
    discoveries: int
    smallest_possible: int | None


class ScoreAnswer(Answer):
    """The answer to every scoring route; `fdr` is there where it was asked for."""

    detector: str | None
    revision: int | None
    definition_hash: str
    model: ModelRef
    score_name: str
    threshold: float | None
    warnings: list[Notice]
    fdr: Fdr | None = Field(default=None, exclude_if=is_none)
    results: list[Result]


class ScoreAnswers(Answer):
    """The answer to POST /v1/score with `detectors`, in their order."""

    answers: list[ScoreAnswer]


class ConceptThreshold(Answer):
    """The threshold of images that resemble `concept` most, or (null) any of the concepts without one."""

    concept: str | None
    threshold: float
    n: int
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None


class Certificate(Answer):
    """A threshold and what it promises; rates are fractions.

    `concepts` is there where the calibration is per concept: thresholds that come before `threshold`.
    """

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
    concepts: list[ConceptThreshold] = Field(default=[], exclude_if=not_)


class ImageProblem(Answer):
    """A calibration image that could not be used."""

    index: int
    name: str | None
    error: Problem


class LowestScore(Answer):
    """A calibration image to look at: does it belong? Posted scores have no names."""

    index: int
    name: str | None
    score: float


class CertificateAnswer(Certificate):
    """POST .../calibrate and PUT .../threshold: the certificate now in force.

    After calibrating, `lowest` lists the images with the lowest scores, lowest first, and `ood_share` is
    Storey's estimate of the OOD share among the new images, measured against the calibration before; null
    where there was none.
    """

    detector: str
    revision: int
    warnings: list[Notice] = Field(default=[])
    errors: list[ImageProblem] = Field(default=[])
    lowest: list[LowestScore] = Field(default=[], exclude_if=not_)
    ood_share: float | None = Field(default=None, exclude_if=is_none)


class Groups(Answer):
    """Where the calibration is per concept: each score's concept, and how many make a concept's own pool."""

    concepts: list[str]
    minimum: int = Field(ge=1)


class Calibration(Answer):
    """GET /v1/detectors/{name}/calibration: the scores, ascending."""

    detector: str
    revision: int
    definition_hash: str
    scores: list[float]
    groups: Groups | None = Field(default=None, exclude_if=is_none)
    certificate: Certificate | None


class DefinitionAnswer(Answer):
    """A definition, complete: nothing is left to defaults."""

    concepts: list[str | ConceptSpec]
    templates: list[str]
    score: str
    temperature: float
    local_weight: float | None = Field(default=None, exclude_if=is_none)
    negatives: Negatives | None = Field(default=None, exclude_if=is_none)


class Neighbour(Answer):
    """A word, the concept that is nearest to it, and their cosine."""

    word: str
    concept: str
    cosine: float


class Mining(Answer):
    """How the negatives of `neglabel` were found: look at `closest`, which may belong to a concept.

    `candidates` words were left after `duplicates`, words that are concepts, and `repeated`, the number of
    words that came again, were dropped. `near` were dropped by `drop_near`; `left_over` would not have filled
    the groups.
    """

    vocabulary: str
    candidates: int
    repeated: int
    duplicates: list[str]
    near: list[Neighbour]
    left_over: int
    negatives: int
    groups: int
    closest: list[Neighbour]


class Detector(Answer):
    """A named, stored definition and what is in force under the encoder that runs.

    `mining` is there where negatives have just been found.
    """

    name: str
    definition: DefinitionAnswer
    definition_hash: str
    revision: int
    model: ModelRef
    certificate: Certificate | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice] = Field(default=[])
    mining: Mining | None = Field(default=None, exclude_if=is_none)


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
