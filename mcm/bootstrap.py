"""Bootstrap intervals of the metrics: how much they would vary with other images of the same kinds.

Images are drawn with replacement, ID and OOD apart (Efron, "Bootstrap methods: another look at the
jackknife", 1979), and every metric is computed exactly on each draw. The scores are sorted once; a draw is
then a count for each image, so that it costs some passes over the scores and no sorting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.errors import InvalidInput
from mcm.metrics import Metrics, checked_side
from mcm.scores import Floats

Counts = NDArray[np.int64]

DEFAULT_DRAWS = 1000
DEFAULT_LEVEL = 0.95
SEED = 0
FIELDS = ("auroc", "aupr", "fpr95", "fpr95_ood_positive")


@dataclass(frozen=True)
class Intervals:
    """The lower and the upper end of each metric's percentile interval."""

    low: Metrics
    high: Metrics


def intervals(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    *,
    draws: int = DEFAULT_DRAWS,
    level: float = DEFAULT_LEVEL,
    seed: int = SEED,
) -> Intervals:
    """Bootstrap percentile intervals of `mcm.metrics.metrics(id_scores, ood_scores)`.

    Scores (n,) of ID and (m,) of OOD images. The same seed gives the same intervals.

    Raises:
        InvalidInput: scores that are empty, or no vector of finite numbers; draws below 1, or a level that
            does not lie in (0, 1).
    """
    (drawn,) = draw_metrics(id_scores, [ood_scores], draws=draws, seed=seed)
    return percentile_intervals(drawn, level=level)


def draw_metrics(
    id_scores: ArrayLike, ood_sets: Sequence[ArrayLike], *, draws: int = DEFAULT_DRAWS, seed: int = SEED
) -> Floats:
    """The metrics of `draws` resamplings, for each OOD set: (sets, draws, 4), in the order of FIELDS.

    In one draw all sets meet the same ID images, so the mean over the sets is a draw of the average.

    Raises:
        InvalidInput: see `intervals`.
    """
    if draws < 1:
        raise InvalidInput(f"a bootstrap needs at least 1 draw, not {draws}")
    id_ = np.sort(checked_side(id_scores, "ID scores"))
    pairs = [_Pair.of(id_, np.sort(checked_side(ood, "OOD scores"))) for ood in ood_sets]
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(1 + len(pairs))]
    found = np.empty((len(pairs), draws, len(FIELDS)))
    for i, id_counts in enumerate(_resamplings(id_.size, draws, streams[0])):
        id_below = np.concatenate([[0], np.cumsum(id_counts)])
        for j, pair in enumerate(pairs):
            found[j, i] = pair.metrics(id_counts, id_below, next(_resamplings(pair.m, 1, streams[1 + j])))
    return found


def percentile_intervals(drawn: Floats, *, level: float = DEFAULT_LEVEL) -> Intervals:
    """The intervals that hold the middle `level` of the draws (draws, 4).

    Raises:
        InvalidInput: the level does not lie in (0, 1).
    """
    if not 0 < level < 1:
        raise InvalidInput(f"the level of an interval must lie between 0 and 1, not {level}")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Intervals(Metrics(*low.tolist()), Metrics(*high.tolist()))


def _resamplings(n: int, draws: int, stream: np.random.Generator) -> Iterator[Counts]:
    """How often each of n images comes in a draw of n with replacement."""
    for _ in range(draws):
        yield np.bincount(stream.integers(n, size=n, dtype=np.uint32), minlength=n)


@dataclass(frozen=True)
class _Pair:
    """Where the scores of two ascending samples lie among each other; sizes n (ID) and m (OOD).

    `ood_low` and `ood_high` (m,): how many ID scores lie below each OOD score, and at most at it.
    `group_start` and `group_end` (g,): where each distinct ID score starts and ends among the ID scores;
    `group_low` (g,): how many OOD scores lie below it; `group_high` (g,): at most at it.
    """

    n: int
    m: int
    ood_low: Counts
    ood_high: Counts
    group_start: Counts
    group_end: Counts
    group_low: Counts
    group_high: Counts

    @classmethod
    def of(cls, id_: Floats, ood: Floats) -> "_Pair":
        start = np.flatnonzero(np.concatenate([[True], id_[1:] != id_[:-1]]))
        return cls(
            n=id_.size,
            m=ood.size,
            ood_low=np.searchsorted(id_, ood, side="left"),
            ood_high=np.searchsorted(id_, ood, side="right"),
            group_start=start,
            group_end=np.append(start[1:], id_.size),
            group_low=np.searchsorted(ood, id_[start], side="left"),
            group_high=np.searchsorted(ood, id_[start], side="right"),
        )

    def metrics(
        self, id_counts: Counts, id_below: Counts, ood_counts: Counts
    ) -> tuple[float, float, float, float]:
        """The metrics, in the order of FIELDS, where each image counts as often as it was drawn.

        `id_below` (n + 1,): how many drawn ID images come before each place.
        """
        ood_below = np.concatenate([[0], np.cumsum(ood_counts)])
        before, upto = id_below[self.group_start], id_below[self.group_end]
        drawn = np.flatnonzero(upto > before)
        return (
            self._auroc(id_below, ood_counts),
            self._aupr(before[drawn], upto[drawn], ood_below[self.group_low[drawn]]),
            self._fpr95(before, drawn, ood_below),
            self._fpr95_ood_positive(id_below, ood_below),
        )

    def _auroc(self, id_below: Counts, ood_counts: Counts) -> float:
        lost_twice = id_below[self.ood_low] + id_below[self.ood_high]  # a tie is half lost
        return float(1 - (ood_counts * lost_twice).sum() / (2 * self.n * self.m))

    def _aupr(self, before: Counts, upto: Counts, ood_before: Counts) -> float:
        accepted_id = self.n - before
        precision = accepted_id / (accepted_id + self.m - ood_before)
        return min(float(((upto - before) * precision).sum() / self.n), 1.0)

    def _fpr95(self, before: Counts, drawn: Counts, ood_below: Counts) -> float:
        """As `mcm.metrics.fpr95`: the threshold is the lowest score above the next lower ID score."""
        rejected = before[drawn]
        place = int(np.searchsorted(rejected, 0.05 * self.n))
        near = [i for i in (place - 1, place) if 0 <= i < drawn.size]
        chosen = min(near, key=lambda i: abs((self.n - rejected[i]) / self.n - 0.95))
        if chosen == 0:  # no drawn ID score is lower, and no threshold may be
            return float(1 - ood_below[self.group_low[drawn[0]]] / self.m)
        return float(1 - ood_below[self.group_high[drawn[chosen - 1]]] / self.m)

    def _fpr95_ood_positive(self, id_below: Counts, ood_below: Counts) -> float:
        wanted = -(-19 * self.m // 20)
        threshold = (
            int(np.searchsorted(ood_below, wanted)) - 1
        )  # place of the drawn score that is the wanted-th
        return float(id_below[self.ood_high[threshold]] / self.n)
