"""Detector and Verdict: frozen data, no model inside. Judging needs numpy only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
from mcm.embeddings import Vectors, cosines, unit_rows
from mcm.errors import EncoderMismatch, InvalidEmbeddings, InvalidInput, NotCalibrated
from mcm.negatives import Negatives
from mcm.scores import Floats, get_score, gl_mcm, local_mcm, neglabel, probabilities

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


@dataclass(frozen=True, eq=False)
class Local:
    """What the patches of one image say under one detector, which is all that need be kept of them.

    `score`: max p over patches and concepts, as `local_mcm`. `similarities` (rows, columns): cosines of the
    patches and the concept that is most similar to the whole image.
    """

    score: float
    similarities: Floats


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one image.

    `score`: higher is more in-distribution. `lift`: k * score, 1.0 = no preference (`mcm` only).
    `p_value`: see `Calibration.p_values`, None without calibration scores. `is_ood`: score < threshold,
    None without a threshold; per concept, `threshold` is that of `concept`. `concept` is the most similar
    one, `top` the most similar ones, best first. `local`: what the image's patches say, where it was given.
    `negative`: the negative word that is most similar to the image (`neglabel` only).
    """

    score: float
    lift: float | None
    p_value: float | None
    threshold: float | None
    is_ood: bool | None
    concept: str
    top: tuple[Match, ...]
    local: Local | None = None
    negative: str | None = None


@dataclass(frozen=True)
class _Scored:
    """Some images: similarities (n, k), scores (n,), and the negative that pulled each most."""

    similarities: Floats
    scores: Floats
    negatives: Sequence[str | None]


@dataclass(frozen=True, eq=False)
class Detector:
    """A definition with its concept embeddings (k, d) under one encoder and, maybe, a calibration.

    `negatives` are those of `neglabel`; every other score has none.

    Raises:
        InvalidEmbeddings: the matrix is not one unit row for each concept, or the negatives do not
            go with it.
    """

    definition: Definition
    fingerprint: str
    matrix: Vectors
    calibration: Calibration = UNCALIBRATED
    negatives: Negatives | None = None

    def __post_init__(self) -> None:
        k = len(self.definition.concepts)
        if not isinstance(self.matrix, np.ndarray) or self.matrix.dtype.kind not in "fiu":
            found = getattr(self.matrix, "dtype", type(self.matrix).__name__)
            raise InvalidEmbeddings(
                f"the matrix must be a numpy array of numbers, not {found}; see unit_rows"
            )
        if self.matrix.ndim != 2 or len(self.matrix) != k:
            raise InvalidEmbeddings(f"{k} concepts need a matrix ({k}, d), not of shape {self.matrix.shape}")
        _check_unit(self.matrix, "concept")
        self._check_negatives()

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
        return cosines(unit_rows(embeddings, self.matrix.shape[1]), self.matrix)

    def local(self, embeddings: Vectors, patches: Vectors) -> list[Local]:
        """What the patches (n, rows, columns, d) of images with these embeddings (n, d) say.

        `gl-mcm` is scored in two steps, this one and `scores` or `judge`, since patches take hundreds of
        times the memory of embeddings: some images at a time go through this one, and only its answers stay.

        Raises:
            InvalidEmbeddings: see `unit_rows`; or the patches are not of these images.
        """
        best = self.similarities(embeddings).argmax(axis=1)
        shape = patches.shape if isinstance(patches, np.ndarray) else ()
        if len(shape) != 4 or len(patches) != len(best) or 0 in shape[1:3]:
            raise InvalidEmbeddings(
                f"{len(best)} images need an array of patches ({len(best)}, rows, columns, d), not {shape}"
            )
        return [self._local(of_one, concept) for of_one, concept in zip(patches, best, strict=True)]

    def scores(self, embeddings: Vectors, *, local: Sequence[Local] | None = None) -> Floats:
        """Scores of image embeddings (n, d) -> (n,); higher is more in-distribution.

        `local`: what the images' patches say, which `gl-mcm` needs.

        Raises:
            InvalidEmbeddings: see `unit_rows`; or the score needs patches.
        """
        blocks = [block.scores for block in self._scored(embeddings, local)]
        return np.concatenate([np.empty(0), *blocks])

    def judge(
        self, embeddings: Vectors, *, local: Sequence[Local] | None = None, top_k: int = DEFAULT_TOP_K
    ) -> list[Verdict]:
        """Verdicts on image embeddings (n, d), one a row, with the `top_k` most similar concepts.

        A row's verdict does not depend on the other rows. `local`: what the images' patches say, which
        `gl-mcm` needs. `top_k` may be 0, or more than there are concepts.

        Raises:
            InvalidEmbeddings: see `unit_rows`; or the score needs patches.
            InvalidInput: `top_k` is negative.
        """
        if top_k < 0:
            raise InvalidInput(f"top_k must be 0 or more, not {top_k}")
        verdicts = [
            verdict
            for block in self._scored(embeddings, local)
            for verdict in self._judge_block(block, top_k)
        ]
        if local is None:
            return verdicts
        return [replace(verdict, local=one) for verdict, one in zip(verdicts, local, strict=True)]

    def _scored(self, embeddings: Vectors, local: Sequence[Local] | None) -> Iterator[_Scored]:
        """Similarities and scores, some images at a time."""
        rows = unit_rows(embeddings, self.matrix.shape[1])
        local_scores = self._local_scores(local, len(rows))
        texts = len(self.matrix) + (0 if self.negatives is None else len(self.negatives.words))
        for some in _blocks(len(rows), texts):
            yield self._score(rows[some], local_scores[some])

    def _local_scores(self, local: Sequence[Local] | None, n: int) -> Floats:
        """The local scores of n images; zeros where the score has no local part."""
        if local is not None and len(local) != n:
            raise InvalidEmbeddings(f"{n} images need the local parts of {n}, not of {len(local)}")
        if not get_score(self.definition.score).local:
            return np.zeros(n)
        if local is None:
            raise InvalidEmbeddings(
                f"the score {self.definition.score!r} needs the patches of the images too, which embeddings "
                "alone do not hold: give images (in Python, see Detector.local)"
            )
        return np.array([one.score for one in local], dtype=np.float64)

    def _local(self, patches: Vectors, concept: int) -> Local:
        """What the patches (rows, columns, d) of one image say, which resembles `concept` most."""
        rows, columns, dim = patches.shape
        scores, to_concept = [], []
        unit = unit_rows(patches.reshape(-1, dim), self.matrix.shape[1])
        for some in _blocks(len(unit), len(self.matrix)):
            similarities = cosines(unit[some], self.matrix)
            scores.append(local_mcm(similarities, len(similarities), self.definition.temperature))
            to_concept.append(similarities[:, concept])
        return Local(float(np.max(scores)), np.concatenate(to_concept).reshape(rows, columns))

    def _judge_block(self, block: _Scored, top_k: int) -> Iterator[Verdict]:
        names, certificate = self.definition.names, self.calibration.certificate
        p = probabilities(block.similarities, self.definition.temperature)
        order = best_first(block.similarities, max(top_k, 1))
        p_values = self.calibration.p_values(block.scores, [names[j] for j in order[:, 0]])
        lift = len(names) if self.definition.score == "mcm" else None
        for i, score in enumerate(block.scores.tolist()):
            threshold = None if certificate is None else certificate.threshold_for(names[order[i, 0]])
            yield Verdict(
                score=score,
                lift=None if lift is None else lift * score,
                p_value=None if p_values is None else float(p_values[i]),
                threshold=threshold,
                is_ood=None if threshold is None else score < threshold,
                concept=names[order[i, 0]],
                top=tuple(
                    Match(names[j], float(block.similarities[i, j]), float(p[i, j])) for j in order[i, :top_k]
                ),
                negative=block.negatives[i],
            )

    def _score(self, rows: Vectors, local_scores: Floats) -> _Scored:
        similarities, temperature = cosines(rows, self.matrix), self.definition.temperature
        scores = get_score(self.definition.score).function(similarities, temperature)
        if self.definition.local_weight is not None:
            scores = gl_mcm(scores, local_scores, self.definition.local_weight)
        if self.negatives is None:
            return _Scored(similarities, scores, [None] * len(rows))
        to_negatives = cosines(rows, self.negatives.matrix)
        scores = neglabel(scores, to_negatives, self.negatives.groups, temperature)
        return _Scored(similarities, scores, [self.negatives.words[j] for j in to_negatives.argmax(axis=1)])

    def _check_negatives(self) -> None:
        if (self.negatives is not None) != get_score(self.definition.score).negatives:
            needs = "has no" if self.negatives is not None else "needs the embeddings of its"
            raise InvalidEmbeddings(
                f"the score {self.definition.score!r} {needs} negatives; see mcm.build_detector"
            )
        if self.negatives is None:
            return
        if self.negatives.matrix.shape[1:] != self.matrix.shape[1:]:
            raise InvalidEmbeddings("negatives and concepts need embeddings of one length")
        _check_unit(self.negatives.matrix, "negative")


def _check_unit(matrix: Vectors, what: str) -> None:
    lengths = np.linalg.norm(matrix, axis=1)
    if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():
        raise InvalidEmbeddings(f"every {what} embedding must have length 1; see unit_rows")


def _blocks(rows: int, texts: int) -> Iterator[slice]:
    """Rows in parts whose similarities to so many texts fit in memory."""
    step = max(1, _BLOCK // texts)
    return (slice(start, start + step) for start in range(0, rows, step))


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
