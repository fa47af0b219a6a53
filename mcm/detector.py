"""Detector and Verdict: frozen data, no model inside. Judging needs numpy only."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
from mcm.embeddings import Vectors, unit_rows
from mcm.errors import EncoderMismatch, InvalidEmbeddings, InvalidInput, NotCalibrated
from mcm.scores import Floats, get_score, probabilities

DEFAULT_TOP_K = 3
_BLOCK = 2**22  # similarities in memory at once: 10,000 images x 10,000 concepts would take gigabytes
_FEW = 32  # up to here, picking the best one by one beats sorting whole rows
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Match:
    """How one concept compares with the image: cosine in [-1, 1] and softmax probability in [0, 1]."""

    concept: str
    similarity: float
    probability: float


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one image.

    `score`: higher is more in-distribution. `lift`: k * score, 1.0 = no preference (`mcm` only).
    `p_value`: see `Calibration.p_values`, None without calibration scores. `is_ood`: score < threshold,
    None without a threshold; per concept, `threshold` is that of `concept`. `concept` is the most similar
    one, `top` the most similar ones, best first.
    """

    score: float
    lift: float | None
    p_value: float | None
    threshold: float | None
    is_ood: bool | None
    concept: str
    top: tuple[Match, ...]


@dataclass(frozen=True, eq=False)
class Detector:
    """A definition with its concept embeddings (k, d) under one encoder and, maybe, a calibration.

    Raises:
        InvalidEmbeddings: the matrix is not one unit row for each concept.
    """

    definition: Definition
    fingerprint: str
    matrix: Vectors
    calibration: Calibration = UNCALIBRATED

    def __post_init__(self) -> None:
        k = len(self.definition.concepts)
        if not isinstance(self.matrix, np.ndarray) or self.matrix.dtype.kind not in "fiu":
            found = getattr(self.matrix, "dtype", type(self.matrix).__name__)
            raise InvalidEmbeddings(
                f"the matrix must be a numpy array of numbers, not {found}; see unit_rows"
            )
        if self.matrix.ndim != 2 or len(self.matrix) != k:
            raise InvalidEmbeddings(f"{k} concepts need a matrix ({k}, d), not of shape {self.matrix.shape}")
        lengths = np.linalg.norm(self.matrix, axis=1)
        if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():
            raise InvalidEmbeddings("every concept embedding must have length 1; see unit_rows")

    @cached_property
    def definition_hash(self) -> str:
        """Scores compare if and only if this is equal."""
        return self.definition.hash(self.fingerprint)

    @property
    def threshold(self) -> float | None:
        """The threshold in force, or None; per concept, see `Certificate.threshold_for`."""
        certificate = self.calibration.certificate
        return None if certificate is None else certificate.threshold

    def require_threshold(self) -> float:
        """The threshold in force.

        Raises:
            NotCalibrated: there is none.
        """
        if self.threshold is None:
            raise NotCalibrated("the detector has no threshold: calibrate it with ID images, or set one")
        return self.threshold

    def require_encoder(self, fingerprint: str) -> None:
        """Refuse embeddings of another encoder.

        Raises:
            EncoderMismatch: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise EncoderMismatch(
                f"the embeddings were made by encoder {fingerprint}, the detector's by {self.fingerprint}; "
                "embed the images again with the detector's encoder"
            )

    def similarities(self, embeddings: Vectors) -> Floats:
        """Cosines of images and concepts: embeddings (n, d) -> (n, k) in [-1, 1].

        Raises:
            InvalidEmbeddings: see `unit_rows`.
        """
        return self._cosines(unit_rows(embeddings, self.matrix.shape[1]))

    def scores(self, embeddings: Vectors) -> Floats:
        """Scores of image embeddings (n, d) -> (n,); higher is more in-distribution.

        Raises:
            InvalidEmbeddings: see `unit_rows`.
        """
        blocks = [self._score(similarities) for similarities in self._blocks(embeddings)]
        return np.concatenate([np.empty(0), *blocks])

    def judge(self, embeddings: Vectors, *, top_k: int = DEFAULT_TOP_K) -> list[Verdict]:
        """Verdicts on image embeddings (n, d), one a row, with the `top_k` most similar concepts.

        A row's verdict does not depend on the other rows. `top_k` may be 0, or more than there are concepts.

        Raises:
            InvalidEmbeddings: see `unit_rows`.
            InvalidInput: `top_k` is negative.
        """
        if top_k < 0:
            raise InvalidInput(f"top_k must be 0 or more, not {top_k}")
        return [
            verdict
            for similarities in self._blocks(embeddings)
            for verdict in self._judge_block(similarities, top_k)
        ]

    def _blocks(self, embeddings: Vectors) -> Iterator[Floats]:
        """The similarities, some rows at a time."""
        rows = unit_rows(embeddings, self.matrix.shape[1])
        step = max(1, _BLOCK // len(self.matrix))
        return (self._cosines(rows[start : start + step]) for start in range(0, len(rows), step))

    def _cosines(self, rows: Vectors) -> Floats:
        """Summed in float64, then rounded to float32, so that an image's cosines are its own.

        A matrix product adds in an order that depends on its shape: in float32 alone an image would get
        other last digits beside other images, and the same one would fall on both sides of a threshold.
        """
        cosines = rows.astype(np.float64) @ self.matrix.astype(np.float64).T
        return cosines.astype(np.float32).clip(-1, 1).astype(np.float64)

    def _judge_block(self, similarities: Floats, top_k: int) -> Iterator[Verdict]:
        names, certificate = self.definition.names, self.calibration.certificate
        scores = self._score(similarities)
        p = probabilities(similarities, self.definition.temperature)
        order = best_first(similarities, max(top_k, 1))
        p_values = self.calibration.p_values(scores, [names[j] for j in order[:, 0]])
        lift = len(names) if self.definition.score == "mcm" else None
        for i, score in enumerate(scores.tolist()):
            threshold = None if certificate is None else certificate.threshold_for(names[order[i, 0]])
            yield Verdict(
                score=score,
                lift=None if lift is None else lift * score,
                p_value=None if p_values is None else float(p_values[i]),
                threshold=threshold,
                is_ood=None if threshold is None else score < threshold,
                concept=names[order[i, 0]],
                top=tuple(
                    Match(names[j], float(similarities[i, j]), float(p[i, j])) for j in order[i, :top_k]
                ),
            )

    def _score(self, similarities: Floats) -> Floats:
        return get_score(self.definition.score).function(similarities, self.definition.temperature)


def best_first(similarities: Floats, count: int) -> NDArray[np.intp]:
    """Columns of the `count` largest similarities of each row, largest first, of equal ones the first.

    (n, k) -> (n, min(count, k)).
    """
    n, k = similarities.shape
    count = min(count, k)
    if count > _FEW:
        return np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    left = similarities.copy()
    order = np.empty((n, count), dtype=np.intp)
    for place in range(count):
        order[:, place] = left.argmax(axis=1)
        left[np.arange(n), order[:, place]] = -np.inf
    return order
