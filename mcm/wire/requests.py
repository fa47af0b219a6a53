"""Every request body."""

from typing import Any

from pydantic import Field, FiniteFloat, model_validator
from pydantic_core import from_json

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


class Negatives(Request):
    """Where the negative words of `neglabel` come from; in a multipart body, a field that holds this as JSON.

    `vocabulary` is one that the server knows; with `vocabulary_hash`, only if its words are those. At most
    `groups` groups, filled by the permutation of `seed`. `drop_near` drops words with a cosine over 0.95 to a
    concept.
    """

    vocabulary: str = Field(default="imagenet-21k", min_length=1, max_length=200)
    vocabulary_hash: str | None = Field(default=None, min_length=1, max_length=64, exclude_if=is_none)
    groups: int = Field(default=100, ge=1, le=10_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    drop_near: bool = False

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return from_json(value) if isinstance(value, str) else value


class Definition(Request):
    """What a detector is made from. What is left out takes the score's defaults.

    `local_weight` goes with the score `gl-mcm`, `negatives` with `neglabel`.
    """

    concepts: list[str | ConceptSpec] = Field(min_length=1)
    templates: list[str] | None = Field(default=None, min_length=1)
    score: ScoreName = "mcm"
    temperature: Temperature | None = None
    local_weight: LocalWeight | None = Field(default=None, exclude_if=is_none)
    negatives: Negatives | None = Field(default=None, exclude_if=is_none)


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
    negatives: Negatives | None = None
    detectors: list[DetectorName] | None = Field(default=None, min_length=1, max_length=64)

    @model_validator(mode="after")
    def _one_of_two(self) -> "OneShotRequest":
        if (self.concepts is None) == (self.detectors is None):
            raise ValueError("give either concepts or detectors, and not both")
        parts = ("templates", "score", "temperature", "local_weight", "negatives")
        if self.detectors and any(getattr(self, part) is not None for part in parts):
            raise ValueError(f"{', '.join(parts[:-1])} and {parts[-1]} go with concepts, not with detectors")
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
