"""Many embeddings against many concepts: the speed of the matrix product, in bounded memory.

Rows are cut into blocks that fit a processor's cache, and each core takes a block through the product and
the scores. The product is float32 here, where `Detector` sums in float64 so that an image's verdict can
never depend on its neighbours: cosines differ by some 1e-7, which moves no metric. Scores are float64.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from mcm.detector import Detector
from mcm.embeddings import Vectors, unit_rows
from mcm.errors import InvalidEmbeddings
from mcm.scores import Floats, get_score, gl_mcm

BLOCK = 512  # rows: with 1000 concepts, 2 MB of cosines
_UNIT = 1e-5


@dataclass(frozen=True, eq=False)
class Rows:
    """Embeddings (n, d) of n images and, for the l detectors with a local score, that score (n, l)."""

    embeddings: Vectors
    local: Floats | None = None

    def __getitem__(self, some: slice) -> "Rows":
        return Rows(self.embeddings[some], None if self.local is None else self.local[some])


Score = Callable[[Rows], Floats]


def local_detectors(detectors: Sequence[Detector]) -> list[Detector]:
    """Those whose score needs the patches of the images, in order."""
    return [d for d in detectors if get_score(d.definition.score).local]


def score_pieces(detectors: Sequence[Detector], pieces: Iterable[Rows]) -> Iterator[Floats]:
    """The scores (len(detectors), n) of each piece of n images, in order; n may differ.

    Some pieces are in memory at once, however many there are.

    Raises:
        InvalidEmbeddings: another length than the concepts' embeddings have, or a row that is zero or not
            finite.
    """
    score, cores = _scorer(detectors), _cores()
    waiting: deque[list[Future[Floats]]] = deque()
    with _one_thread_each(), ThreadPoolExecutor(cores, thread_name_prefix="mcm-score") as pool:
        try:
            for piece in pieces:
                blocks = (
                    piece[slice(start, start + BLOCK)] for start in range(0, len(piece.embeddings), BLOCK)
                )
                waiting.append([pool.submit(score, block) for block in blocks])
                if len(waiting) > 2:
                    yield _joined(waiting.popleft(), len(detectors))
            while waiting:
                yield _joined(waiting.popleft(), len(detectors))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _joined(blocks: "list[Future[Floats]]", rows: int) -> Floats:
    return np.concatenate([np.empty((rows, 0)), *(block.result() for block in blocks)], axis=1)


def _scorer(detectors: Sequence[Detector]) -> Score:
    """Images -> scores (len(detectors), n); detectors with one matrix share the product."""
    transposed = {id(d.matrix): np.ascontiguousarray(d.matrix.T) for d in detectors if _shares(d)}
    local = [id(d) for d in local_detectors(detectors)]

    def of_one(detector: Detector, rows: Vectors, cosines: dict[int, Vectors], piece: Rows) -> Floats:
        definition = detector.definition
        if not _shares(detector):
            return detector.scores(rows)
        scores = get_score(definition.score).function(cosines[id(detector.matrix)], definition.temperature)
        if definition.local_weight is None or piece.local is None:
            return scores
        return gl_mcm(scores, piece.local[:, local.index(id(detector))], definition.local_weight)

    def score(piece: Rows) -> Floats:
        rows = _checked(piece.embeddings, detectors[0].matrix.shape[1])
        cosines = {key: rows @ matrix for key, matrix in transposed.items()}
        return np.stack([of_one(detector, rows, cosines, piece) for detector in detectors])

    return score


def _shares(detector: Detector) -> bool:
    """Whether the embeddings' part of the score depends on the similarities to the concepts alone."""
    return not get_score(detector.definition.score).negatives


def _checked(embeddings: Vectors, dim: int) -> Vectors:
    """Unit rows; those that are so already, as `mcm embed` writes them, are not normalised again."""
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise InvalidEmbeddings(
            f"the embeddings have {embeddings.shape[-1]} numbers, the concepts' have {dim}: they were made "
            "by different encoders"
        )
    lengths = np.einsum("ij,ij->i", embeddings, embeddings)
    if (np.abs(lengths - 1) <= _UNIT).all():
        return embeddings
    return unit_rows(embeddings, dim)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread_each() -> AbstractContextManager[object]:
    """The threads are ours: those of the matrix product would only compete with them."""
    try:
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")  # type: ignore[no-any-return]
