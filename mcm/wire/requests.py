"""Every request body."""

from pydantic import Field, FiniteFloat, model_validator

from mcm.wire.base import (
    DetectorName,
    FdrMethod,
    LocalWeight,
    Method,
    Rate,
    Request,
    ScoreName,
    Temperature,
    is_none,
)


class ConceptSpec(Request):
    """A concept with prompts of its own; without any, the templates are used."""

    name: str
    prompts: list[str] = Field(default=[])


class Definition(Request):
    """What a detector is made from. What is left out takes the score's defaults.

    `local_weight` goes with the score `gl-mcm`.
    """

    concepts: list[str | ConceptSpec] = Field(min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)
    score: ScoreName = "mcm"
    temperature: Temperature | None = None
    local_weight: LocalWeight | None = Field(default=None, exclude_if=is_none)


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
    """Options of every scoring route; `explain` asks for maps of where the best concepts match."""

    top_k: int = Field(default=3, ge=0, le=100)
    explain: bool = False
    require_verdict: bool = False
    fdr: Rate | None = None
    fdr_method: FdrMethod = "benjamini-hochberg"


class ScoreRequest(ScoreOptions):
    """POST /v1/detectors/{name}/score: images, or embeddings with the fingerprint of their encoder."""

    embeddings: list[list[float]] | None = Field(default=None, min_length=1)
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _fingerprint_with_embeddings(self) -> "ScoreRequest":
        if (self.embeddings is None) != (self.fingerprint is None):
            raise ValueError("embeddings and fingerprint go together")
        if self.embeddings is not None and self.explain:
            raise ValueError("explain goes with images: embeddings say nothing of their parts")
        return self


class OneShotRequest(ScoreOptions):
    """POST /v1/score: `concepts` (with the other fields of a definition), or `detectors`, never both."""

    concepts: list[str | ConceptSpec] | None = Field(default=None, min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)
    score: ScoreName | None = None
    temperature: Temperature | None = None
    local_weight: LocalWeight | None = None
    detectors: list[DetectorName] | None = Field(default=None, min_length=1, max_length=64)

    @model_validator(mode="after")
    def _one_of_two(self) -> "OneShotRequest":
        if (self.concepts is None) == (self.detectors is None):
            raise ValueError("give either concepts or detectors, and not both")
        parts = (self.templates, self.score, self.temperature, self.local_weight)
        if self.detectors and any(part is not None for part in parts):
            raise ValueError(
                "templates, score, temperature and local_weight go with concepts, not with detectors"
            )
        return self


class CalibrateRequest(Images):
    """POST /v1/detectors/{name}/calibrate: ID images, or scores with the definition hash that made them.

    `confidence` is that of `pac`. With `append`, the scores are added to those of the calibration in force,
    and options that are left out stay as they are there. With `per_concept`, posted scores come with
    `concepts`, the most similar concept of each one's image.
    """

    scores: list[FiniteFloat] | None = Field(default=None, min_length=1)
    definition_hash: str | None = None
    concepts: list[str] | None = None
    method: Method = "split-conformal"
    false_alarm_rate: Rate = 0.05
    confidence: Rate = 0.95
    per_concept: bool = False
    append: bool = False

    @model_validator(mode="after")
    def _hash_with_scores(self) -> "CalibrateRequest":
        if (self.scores is None) != (self.definition_hash is None):
            raise ValueError("scores and the definition_hash that made them go together")
        if self.concepts is not None and len(self.concepts) != len(self.scores or ()):
            raise ValueError("concepts go with scores, one for each")
        return self


class ThresholdRequest(Request):
    """PUT /v1/detectors/{name}/threshold."""

    threshold: FiniteFloat


class EmbedRequest(Images):
    """POST /v1/embed: images, or texts."""

    texts: list[str] | None = Field(default=None, min_length=1)
