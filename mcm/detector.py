"""Detector and Verdict: frozen data, no model inside. Judging needs numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
from mcm.embeddings import Vectors
from mcm.errors import EncoderMismatch, NotCalibrated
from mcm.scores import Floats, get_score, probabilities

DEFAULT_TOP_K = 3


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
    `p_value`: share of calibration scores at or below this one. `is_ood` is None without a threshold.
    `concept` is the most similar one, `top` the most similar ones, best first.
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
    """A definition with its concept embeddings (k, d) under one encoder and, maybe, a calibration."""

    definition: Definition
    fingerprint: str
    matrix: Vectors
    calibration: Calibration = UNCALIBRATED

    @property
    def definition_hash(self) -> str:
        """Scores compare if and only if this is equal."""
        return self.definition.hash(self.fingerprint)

    @property
    def threshold(self) -> float | None:
        """The threshold in force, or None."""
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
        """Cosines of images and concepts: unit rows (n, d) -> (n, k) in [-1, 1]."""
        return np.asarray(embeddings @ self.matrix.T, dtype=np.float64)

    def scores(self, embeddings: Vectors) -> Floats:
        """Scores of unit rows (n, d) -> (n,); higher is more in-distribution."""
        return self._score(self.similarities(embeddings))

    def judge(self, embeddings: Vectors, *, top_k: int = DEFAULT_TOP_K) -> list[Verdict]:
        """Verdicts on unit rows (n, d), one a row, with the `top_k` most similar concepts."""
        similarities = self.similarities(embeddings)
        scores = self._score(similarities)
        p_values = self.calibration.p_values(scores)
        p = probabilities(similarities, self.definition.temperature)
        order = best_first(similarities, max(top_k, 1))
        lift = similarities.shape[1] if self.definition.score == "mcm" else None
        names = self.definition.names
        return [
            Verdict(
                score=float(scores[i]),
                lift=None if lift is None else float(lift * scores[i]),
                p_value=None if p_values is None else float(p_values[i]),
                threshold=self.threshold,
                is_ood=None if self.threshold is None else bool(scores[i] < self.threshold),
                concept=names[order[i, 0]],
                top=tuple(
                    Match(names[j], float(similarities[i, j]), float(p[i, j])) for j in order[i, :top_k]
                ),
            )
            for i in range(len(scores))
        ]

    def _score(self, similarities: Floats) -> Floats:
        return get_score(self.definition.score).function(similarities, self.definition.temperature)


def best_first(similarities: Floats, count: int) -> NDArray[np.intp]:
    """Columns of the `count` largest similarities of each row, largest first: (n, count)."""
    count = min(count, similarities.shape[1])
    if count < similarities.shape[1]:
        columns = np.sort(np.argpartition(-similarities, count - 1, axis=1)[:, :count], axis=1)
    else:
        columns = np.broadcast_to(np.arange(count), similarities.shape)
    order = np.argsort(-np.take_along_axis(similarities, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
