"""What the store gives back, and how columns and mcm's data turn into each other, bit for bit."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np

from mcm.calibration import UNCALIBRATED, Calibration, Certificate, ConceptThreshold
from mcm.definition import Definition, definition_from_json
from mcm.embeddings import Vectors
from mcm.mondrian import Groups
from mcm.negatives import Negatives
from mcm.scores import Floats

_FLOAT32 = np.dtype("<f4")
_FLOAT64 = np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class StoredDetector:
    """A detector as one encoder sees it.

    `matrix` (k, d) is None if that encoder never encoded this definition; `negatives` are there with it where
    the score has them. `calibrated_elsewhere` says that
    scores or a threshold are kept under another encoder. Times are in UTC.
    """

    name: str
    revision: int
    definition: Definition
    created_at: datetime
    updated_at: datetime
    matrix: Vectors | None
    calibration: Calibration
    calibrated_elsewhere: bool
    negatives: Negatives | None = None


@dataclass(frozen=True)
class StoredSummary:
    """A detector in a list: everything that no encoder has a part in."""

    name: str
    revision: int
    definition: Definition
    created_at: datetime
    updated_at: datetime

    @property
    def score(self) -> str:
        """The name of the definition's score."""
        return self.definition.score

    @property
    def k(self) -> int:
        """The number of concepts."""
        return len(self.definition.concepts)


@dataclass(frozen=True, eq=False)
class Replaced:
    """What `Store.replace` did: `dropped_calibration` says that scores or a threshold went out of force."""

    stored: StoredDetector
    created: bool
    dropped_calibration: bool


def definition_to_text(definition: Definition) -> str:
    """The definition as JSON text."""
    return json.dumps(definition.to_json(), separators=(",", ":"))


def definition_from_text(text: str) -> Definition:
    """The definition that `definition_to_text` wrote."""
    return definition_from_json(json.loads(text))


def matrix_to_bytes(matrix: Vectors) -> bytes:
    """Rows of little-endian float32."""
    return np.ascontiguousarray(matrix, dtype=_FLOAT32).tobytes()


def matrix_from_bytes(data: bytes, k: int, dim: int) -> Vectors:
    """The read-only matrix (k, dim) that `matrix_to_bytes` wrote."""
    return np.frombuffer(data, dtype=_FLOAT32).reshape(k, dim).astype(np.float32, copy=False)


def negatives_to_text(negatives: Negatives | None) -> str | None:
    """The words and the number of groups as JSON text."""
    if negatives is None:
        return None
    return json.dumps({"words": negatives.words, "groups": negatives.groups}, separators=(",", ":"))


def negatives_from_columns(text: str | None, matrix: bytes | None, dim: int | None) -> Negatives | None:
    """The negatives that the columns hold; all are None where there is no row."""
    if text is None or matrix is None or dim is None:
        return None
    data = json.loads(text)
    words = tuple(data["words"])
    return Negatives(words, matrix_from_bytes(matrix, len(words), dim), data["groups"])


def scores_to_bytes(scores: Floats) -> bytes:
    """Little-endian float64."""
    return np.ascontiguousarray(scores, dtype=_FLOAT64).tobytes()


def certificate_to_text(certificate: Certificate | None) -> str | None:
    """The certificate as JSON text, its time as in RFC 3339."""
    if certificate is None:
        return None
    return json.dumps(asdict(certificate) | {"created_at": certificate.created_at.isoformat()})


def groups_to_text(groups: Groups | None) -> str | None:
    """The concepts of the scores as JSON text."""
    return None if groups is None else json.dumps(asdict(groups), separators=(",", ":"))


def calibration_from_columns(
    scores: bytes | None, certificate: str | None, groups: str | None
) -> Calibration:
    """The calibration that the columns hold; all are None where there is no row."""
    if scores is None:
        return UNCALIBRATED
    return Calibration(
        np.frombuffer(scores, dtype=_FLOAT64).astype(np.float64, copy=False),
        None if certificate is None else _certificate_from_text(certificate),
        None if groups is None else _groups_from_text(groups),
    )


def is_empty(calibration: Calibration) -> bool:
    """Whether it holds neither scores nor a threshold."""
    return calibration.certificate is None and calibration.scores.size == 0


def same_calibration(one: Calibration, other: Calibration) -> bool:
    """Whether scores, their concepts and certificate are equal."""
    return (one.certificate, one.groups) == (other.certificate, other.groups) and np.array_equal(
        one.scores, other.scores
    )


def _certificate_from_text(text: str) -> Certificate:
    data = json.loads(text)
    concepts = data.get("concepts", ())  # version 0.1 wrote none
    return Certificate(
        **data
        | {
            "rate_interval": _interval(data["rate_interval"]),
            "created_at": datetime.fromisoformat(data["created_at"]),
            "concepts": tuple(
                ConceptThreshold(**entry | {"rate_interval": _interval(entry["rate_interval"])})
                for entry in concepts
            ),
        }
    )


def _interval(pair: list[float] | None) -> tuple[float, float] | None:
    return None if pair is None else (pair[0], pair[1])


def _groups_from_text(text: str) -> Groups:
    data = json.loads(text)
    return Groups(tuple(data["concepts"]), data["minimum"])
