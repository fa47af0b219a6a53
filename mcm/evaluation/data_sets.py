"""Data sets in, scores out: folders of images, tables of embeddings, tables of scores."""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mcm.detector import Detector
from mcm.encoders import Encoder
from mcm.errors import EncoderMismatch, InvalidInput
from mcm.evaluation.blocks import Rows, local_detectors, score_pieces
from mcm.evaluation.results import Extreme, SetCount
from mcm.evaluation.store import Store, image_file, keep_missing
from mcm.evaluation.tables import Table, open_table
from mcm.names import sayable
from mcm.pipeline import Embedded, Source, embed_images, image_files
from mcm.scores import Floats

SHOWN = 24  # images of either kind that are remembered for a person to look at
KEPT_FAILURES = 1000

Read = Callable[[Path], bytes]
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DataSet:
    """A name for people, and a folder of images or a table of embeddings or scores."""

    name: str
    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", sayable(self.name))


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """The scores (v, n) of a set's n images by v detectors, and what the first one gets most wrong."""

    count: SetCount
    scores: Floats
    extremes: tuple[Extreme, ...]
    marks: frozenset[str] = frozenset()


@dataclass
class Extremes:
    """Remembers the SHOWN names with the highest (`sign` 1) or lowest (-1) scores."""

    sign: int
    folder: Path | None = None
    found: list[tuple[float, str]] = field(default_factory=list)

    def see(self, names: Sequence[str], scores: Floats) -> None:
        """Take in some more images: n names and scores (n,)."""
        best = np.argsort(-self.sign * scores, kind="stable")[:SHOWN]
        new = [(self.sign * float(scores[i]), names[i]) for i in best]
        self.found = heapq.nlargest(SHOWN, [*self.found, *new], key=lambda pair: pair[0])

    def all(self) -> tuple[Extreme, ...]:
        """The images, the most extreme first."""
        folder = self.folder
        return tuple(
            Extreme(name, None if folder is None else folder / name, self.sign * score)
            for score, name in self.found
        )


@dataclass(frozen=True)
class Work:
    """What images and embeddings are scored with; `watch` is told (set name, images done, images in all)."""

    detectors: Sequence[Detector]
    encoder: Encoder | None
    folder: Path | None
    read: Read | None
    watch: Watch


def score_set(data_set: DataSet, sign: int, work: Work) -> ScoredSet:
    """The scores of a set, whatever kind it is.

    Raises:
        InvalidInput: neither folder nor table, or there is nothing to score it with.
        EncoderMismatch: embeddings that another encoder made.
    """
    if data_set.path.is_dir():
        return _score_images(data_set, sign, work)
    table = open_table(data_set.path)
    return (
        _read_scores(data_set, table, sign)
        if table.kind == "score"
        else _score_table(data_set, table, sign, work)
    )


def _read_scores(data_set: DataSet, table: Table, sign: int) -> ScoredSet:
    extremes, scores, marks = Extremes(sign), [np.empty(0)], frozenset[str]()
    failures = list[tuple[str, str]]()
    for piece in table.pieces():
        scores.append(piece.values)
        extremes.see(piece.names, piece.values)
        failures += piece.failures
        marks |= piece.marks
    found = np.concatenate(scores)[None, :]
    return ScoredSet(_count(data_set, found, failures), found, extremes.all(), marks)


def _score_table(data_set: DataSet, table: Table, sign: int, work: Work) -> ScoredSet:
    _require_detectors(work, data_set)
    if local := local_detectors(work.detectors):
        raise InvalidInput(
            f"the score {local[0].definition.score!r} needs the patches of the images, which the table of "
            f"{data_set.name} does not hold: give the folder of images"
        )
    extremes, failures, names = Extremes(sign), list[tuple[str, str]](), list[list[str]]()

    def embeddings() -> Iterator[Rows]:
        for piece in table.pieces():
            _require_fingerprint(work, piece.marks, data_set)
            failures.extend(piece.failures)
            if piece.names:
                names.append(piece.names)
                yield Rows(piece.values)

    scores = [np.empty((len(work.detectors), 0))]
    for found in score_pieces(work.detectors, embeddings()):
        extremes.see(names.pop(0), found[0])
        scores.append(found)
        work.watch(data_set.name, sum(s.shape[1] for s in scores), 0)
    every = np.concatenate(scores, axis=1)
    return ScoredSet(_count(data_set, every, failures), every, extremes.all())


def _score_images(data_set: DataSet, sign: int, work: Work) -> ScoredSet:
    _require_detectors(work, data_set)
    if work.encoder is None:
        raise InvalidInput(f"{data_set.name} is a folder of images: an encoder is needed to embed them")
    encoder = work.encoder
    files = [image_file(path, data_set.path) for path in image_files([data_set.path])]
    extremes, failures, names = Extremes(sign, data_set.path), list[tuple[str, str]](), list[list[str]]()
    scores = [np.empty((len(work.detectors), 0))]
    local = local_detectors(work.detectors)
    with _store(data_set, encoder, local, work.folder) as store:
        keep_missing(
            store,
            files,
            lambda paths: embed_images(
                encoder, (_source(path, work.read) for path in paths), patches=bool(local)
            ),
            local=partial(_local_scores, local),
            watch=partial(work.watch, data_set.name),
        )

        def embeddings() -> Iterator[Rows]:
            for piece in store.pieces({file.identity for file in files}):
                failures.extend(piece.failures)
                if piece.names:
                    names.append(piece.names)
                    yield Rows(piece.embeddings, piece.local)

        for found in score_pieces(work.detectors, embeddings()):
            extremes.see(names.pop(0), found[0])
            scores.append(found)
    every = np.concatenate(scores, axis=1)
    return ScoredSet(_count(data_set, every, failures), every, extremes.all())


def _count(data_set: DataSet, scores: Floats, failures: Sequence[tuple[str, str]]) -> SetCount:
    return SetCount(data_set.name, scores.shape[1], len(failures), tuple(failures[:KEPT_FAILURES]))


def _local_scores(detectors: Sequence[Detector], item: Embedded) -> list[float]:
    if item.embedding is None or item.patches is None:
        return []
    one, patches = item.embedding[None], item.patches[None]
    return [detector.local(one, patches)[0].score for detector in detectors]


def _source(path: Path, read: Read | None) -> Source | Path:
    return path if read is None else Source(str(path), partial(read, path))


@contextmanager
def _store(
    data_set: DataSet, encoder: Encoder, local: Sequence[Detector], folder: Path | None
) -> Iterator[Store]:
    """Where the embeddings of this folder by this encoder are kept, or a place that is deleted at the end.

    What patches give depends on the definition: there is a place for each.
    """
    parts = [str(data_set.path.resolve()), encoder.fingerprint, *(d.definition_hash for d in local)]
    key = hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()[:16]
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory())) if folder is None else folder
        yield Store(place / key, encoder.name, encoder.fingerprint)


def _require_detectors(work: Work, data_set: DataSet) -> None:
    if not work.detectors:
        raise InvalidInput(
            f"{data_set.name} has no scores: give the concepts or a detector that its images are scored with"
        )
    for detector in work.detectors:
        if work.encoder is not None:
            detector.require_encoder(work.encoder.fingerprint)


def _require_fingerprint(work: Work, marks: frozenset[str], data_set: DataSet) -> None:
    others = marks - {work.detectors[0].fingerprint}
    if others:
        raise EncoderMismatch(
            f"the embeddings of {data_set.name} were made by another encoder ({min(others):.12}) than the "
            f"concepts' ({work.detectors[0].fingerprint:.12}): embed the images again, or give the encoder "
            "that made them"
        )
