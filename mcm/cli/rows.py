"""One image's line in every table and result file, the same from this machine and from a server."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from mcm import wire
from mcm.cli.files import Columns
from mcm.detector import Detector, Verdict
from mcm.names import sayable

COLUMNS: Columns = {
    "name": "text",
    "score": "number",
    "lift": "number",
    "p_value": "number",
    "threshold": "number",
    "is_ood": "flag",
    "discovery": "flag",
    "concept": "text",
    "top": "matches",
    "negative": "text",
    "error": "text",
    "score_name": "text",
    "definition_hash": "text",
    "encoder": "text",
    "fingerprint": "text",
}


@dataclass(frozen=True)
class Row:
    """What is said of one image, and what said it; where `error` is set, the image's own fields are None."""

    name: str
    score_name: str
    definition_hash: str
    encoder: str
    fingerprint: str
    score: float | None = None
    lift: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    is_ood: bool | None = None
    discovery: bool | None = None
    concept: str | None = None
    top: tuple[dict[str, Any], ...] = ()
    negative: str | None = None
    error: str | None = None

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.error is not None:
            return "error"
        return {True: "OOD", False: "in distribution", None: "no threshold"}[self.is_ood]


def blank_row(detector: Detector, encoder_name: str) -> Row:
    """What all rows of a detector on this machine share."""
    return Row(
        name="",
        score_name=detector.definition.score,
        definition_hash=detector.definition_hash,
        encoder=encoder_name,
        fingerprint=detector.fingerprint,
        threshold=detector.threshold,
    )


def judged(blank: Row, name: str, verdict: Verdict | wire.Result) -> Row:
    """The row of an image that has a score."""
    return replace(
        blank,
        name=sayable(name),
        score=verdict.score,
        lift=verdict.lift,
        p_value=verdict.p_value,
        threshold=blank.threshold if verdict.threshold is None else verdict.threshold,
        is_ood=verdict.is_ood,
        concept=verdict.concept,
        top=tuple(
            {"concept": m.concept, "similarity": m.similarity, "probability": m.probability}
            for m in verdict.top or ()
        ),
        negative=verdict.negative,
    )


def failed(blank: Row, name: str, error: str) -> Row:
    """The row of an image that could not be used."""
    return replace(blank, name=sayable(name), error=sayable(error))


def with_threshold(row: Row, threshold: float) -> Row:
    """The row judged by another threshold."""
    return replace(
        row, threshold=threshold, is_ood=None if row.score is None else bool(row.score < threshold)
    )


def as_dict(row: Row) -> dict[str, Any]:
    """The row under the names of COLUMNS, in their order."""
    values = asdict(row) | {"top": None if row.error is not None else list(row.top)}
    return {name: values[name] for name in COLUMNS}
