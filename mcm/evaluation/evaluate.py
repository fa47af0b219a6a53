"""ID and OOD data sets in, metrics with intervals out."""

from collections.abc import Sequence
from pathlib import Path

from mcm.bootstrap import DEFAULT_DRAWS, SEED, draw_metrics, percentile_intervals
from mcm.detector import Detector
from mcm.encoders import Encoder
from mcm.errors import DefinitionMismatch, InvalidInput
from mcm.evaluation.data_sets import DataSet, Read, ScoredSet, Watch, Work, score_set
from mcm.evaluation.results import Evaluation, ScoreResult, SetMetrics, average_of
from mcm.evaluation.tables import open_table
from mcm.metrics import metrics


def _unwatched(name: str, done: int, total: int) -> None:
    pass


def evaluate(
    id_set: DataSet,
    ood_sets: Sequence[DataSet],
    *,
    detectors: Sequence[Detector] = (),
    encoder: Encoder | None = None,
    work: Path | None = None,
    draws: int = DEFAULT_DRAWS,
    seed: int = SEED,
    read: Read | None = None,
    watch: Watch = _unwatched,
) -> Evaluation:
    """How well scores tell the ID images from each set of OOD images.

    A set is a folder of images (class subfolders or flat), a table of embeddings, or a table of scores, see
    `mcm.evaluation.tables`. Images and embeddings are scored by each of `detectors`, all of one encoder;
    where there are images, `encoder` embeds them. With `work`, a folder, their embeddings are kept there and
    a stopped run goes on. Images that cannot be used are counted. Any number of images takes the same memory
    but for 8 bytes a score. `read` gives the bytes of an image file where they are not taken as they are;
    `watch` is called with (set name, images done, images in all) as a set proceeds.

    Raises:
        InvalidInput: no OOD set, a name twice, scores and images mixed, or a set without a usable image.
        EncoderMismatch, DefinitionMismatch: things that cannot be compared.
        MissingExtra: the extra `eval` is not installed.
    """
    sets = (id_set, *ood_sets)
    _require_names(sets)
    from_files = _require_one_kind(sets, detectors)
    how = Work(detectors, encoder, work, read, watch)
    known, *others = (score_set(data_set, -1 if data_set is id_set else 1, how) for data_set in sets)
    _require_comparable([known, *others])
    variants: Sequence[Detector | None] = [None] if from_files else detectors
    return Evaluation(
        id_set=known.count,
        ood_sets=tuple(other.count for other in others),
        encoder=None if encoder is None or from_files else encoder.name,
        results=tuple(_result(v, i, known, others, draws, seed) for i, v in enumerate(variants)),
        lowest_id=known.extremes,
        highest_ood={other.count.name: other.extremes for other in others},
    )


def _result(
    detector: Detector | None, i: int, known: ScoredSet, others: Sequence[ScoredSet], draws: int, seed: int
) -> ScoreResult:
    id_scores, ood_scores = known.scores[i], {other.count.name: other.scores[i] for other in others}
    made = [metrics(id_scores, scores) for scores in ood_scores.values()]
    drawn = draw_metrics(id_scores, list(ood_scores.values()), draws=draws, seed=seed)
    return ScoreResult(
        score=None if detector is None else detector.definition.score,
        temperature=None if detector is None else detector.definition.temperature,
        sets={
            name: SetMetrics(scores.size, made[j], percentile_intervals(drawn[j]))
            for j, (name, scores) in enumerate(ood_scores.items())
        },
        average=SetMetrics(
            sum(scores.size for scores in ood_scores.values()),
            average_of(made),
            percentile_intervals(drawn.mean(axis=0)),
        ),
        id_scores=id_scores,
        ood_scores=ood_scores,
    )


def _require_names(sets: Sequence[DataSet]) -> None:
    if len(sets) < 2:
        raise InvalidInput("an evaluation needs at least one set of OOD images beside the ID images")
    names = [data_set.name for data_set in sets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidInput(f"the name {twice} is given to two sets: let every set have a name of its own")


def _require_one_kind(sets: Sequence[DataSet], detectors: Sequence[Detector]) -> bool:
    """Whether the sets are tables of scores: all or none of them are. Looked up before any work is done."""
    scored = [s.name for s in sets if not s.path.is_dir() and open_table(s.path).kind == "score"]
    if scored and len(scored) < len(sets):
        raise InvalidInput(
            f"{scored[0]} is a table of scores and others are not: only scores made in one way compare; give "
            "scores for all sets, or images or embeddings for all"
        )
    if scored and detectors:
        raise InvalidInput(
            "the sets are tables of scores, so there is nothing to score: leave out concepts, detector, "
            "score and temperature"
        )
    return bool(scored)


def _require_comparable(scored: Sequence[ScoredSet]) -> None:
    marks = frozenset[str]().union(*(found.marks for found in scored))
    if len(marks) > 1:
        some = ", ".join(sorted(f"{mark:.12}" for mark in marks)[:3])
        raise DefinitionMismatch(
            f"the scores were made under different definitions or encoders ({some}) and do not compare: "
            "score all images in one way"
        )
    for found in scored:
        if not found.count.used:
            raise InvalidInput(f"{found.count.name} has no image that could be used")
