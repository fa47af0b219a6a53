"""Every request body."""

from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from mcm.wire.base import DetectorName, FdrMethod, Method, Rate, Request, ScoreName


class ConceptSpec(Request):
    """A concept with prompts of its own; without any, the templates are used."""

    name: str
    prompts: list[str] = Field(default=[])


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
