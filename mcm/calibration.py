"""Calibrations: in-distribution (ID) scores, the threshold in force with its certificate, and p-values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from mcm.errors import InvalidInput
from mcm.mondrian import Groups, Pools, checked_concepts, pools_of
from mcm.scores import Floats, finite_scores
from mcm.thresholds import (
    Target,
    Threshold,
    find_threshold,
    number,
    promise,
    promise_for_each,
    require_enough,
)


@dataclass(frozen=True)
class ConceptThreshold:
    """The threshold of images whose most similar concept is `concept`, the `k`-th smallest of its `n` scores.

    `concept` None stands for all concepts that have too few scores for a threshold of their own.
    """

    concept: str | None
    threshold: float
    n: int
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Certificate:
    """A threshold and what it promises. OOD when score < threshold.

    `false_alarm_rate` is the target, `expected_rate` the rate to expect on average over calibrations,
    `rate_interval` a 90 % interval of the rate that this one calibration realises; rates are fractions.
    Both hold for scores that do not tie; with ties the true rates are lower. `n` scores were used, and
    the threshold is the `k`-th smallest. `confidence` is that of `pac`. None wherever the method promises
    nothing: a manual threshold has only `threshold`, `n`, `created_at` and `definition_hash`.

    `concepts`, where the calibration is per concept, are the thresholds that come before `threshold`.
    """

    threshold: float
    method: str
    false_alarm_rate: float | None
    confidence: float | None
    n: int
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None
    promise: str | None
    created_at: datetime
    definition_hash: str
    concepts: tuple[ConceptThreshold, ...] = ()

    def threshold_for(self, concept: str) -> float:
        """The threshold of images whose most similar concept this is."""
        return self._own.get(concept, self._own.get(None, self.threshold))

    @cached_property
    def _own(self) -> dict[str | None, float]:
        return {entry.concept: entry.threshold for entry in self.concepts}


@dataclass(frozen=True, eq=False)
class Calibration:
    """ID scores (n,), maybe none, kept in ascending order, and the threshold in force, if there is one.

    `groups`, where the calibration is per concept, has the concept of each score.

    Raises:
        InvalidInput: the scores are no vector of finite numbers, or `groups` does not go with them.
    """

    scores: Floats = field(default_factory=lambda: np.empty(0))
    certificate: Certificate | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        scores = finite_scores(self.scores, "calibration scores")
        order = np.argsort(scores, kind="stable")
        ascending = scores[order]
        ascending.setflags(write=False)
        object.__setattr__(self, "scores", ascending)
        if self.groups is not None:
            checked_concepts(self.groups.concepts, scores.size)
            object.__setattr__(self, "groups", self.groups.ordered(order))

    @property
    def by_concept(self) -> bool:
        """Whether the threshold in force depends on the image's concept."""
        return self.certificate is not None and bool(self.certificate.concepts)

    @cached_property
    def pools(self) -> Pools:
        """Which scores an image is compared with."""
        return pools_of(self.scores, self.groups)

    def p_values(self, scores: ArrayLike, concepts: Sequence[str] | None = None) -> Floats | None:
        """(1 + #{calibration scores <= s}) / (n + 1) of each score s: (m,) -> (m,), in (0, 1].

        A new ID image has a p-value <= a with chance at most a. None without calibration scores. Per
        concept, the calibration scores are those of the pool of each image's concept: `concepts` (m,).
        Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023.

        Raises:
            InvalidInput: the calibration is per concept, and `concepts` are not given, or not (m,).
        """
        if self.scores.size == 0:
            return None
        new = np.asarray(scores, dtype=np.float64)
        p = np.empty(new.shape)
        for pool, places in self._by_pool(new.size, concepts):
            p[places] = (1 + np.searchsorted(pool, new[places], side="right")) / (pool.size + 1)
        return p

    def smallest_p_values(self, m: int, concepts: Sequence[str] | None = None) -> Floats | None:
        """1 / (n + 1), the least that the p-value of each of m images could be; see `p_values`."""
        return self.p_values(np.full(m, -np.inf), concepts)

    def _by_pool(self, m: int, concepts: Sequence[str] | None) -> "list[tuple[Floats, slice | list[int]]]":
        """The pools that m images are compared with, and the places of their images."""
        if self.groups is None:
            return [(self.scores, slice(None))]
        if concepts is None:
            raise InvalidInput("the calibration is per concept: p-values need the images' concepts")
        places: dict[str | None, list[int]] = {}
        for i, name in enumerate(checked_concepts(concepts, m)):
            places.setdefault(name if name in self.pools.own else None, []).append(i)
        return [
            (self.pools.shared if name is None else self.pools.own[name], found)
            for name, found in places.items()
        ]


UNCALIBRATED = Calibration()


def calibrate(
    scores: ArrayLike,
    definition_hash: str,
    *,
    method: str | None = None,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    concepts: Sequence[str] | None = None,
    append_to: Calibration = UNCALIBRATED,
) -> Calibration:
    """A calibration from in-distribution scores (n,) that were made under `definition_hash`.

    `method` is one of METHODS (default split-conformal), `false_alarm_rate` the target in (0, 1) (0.05),
    `confidence` that of `pac` (0.95). With `concepts` (n,), the most similar concept of each score's image,
    concepts that have enough scores get thresholds and p-values of their own: see `mcm.mondrian`.

    The scores of `append_to`, made under the same definition hash, count too, and what is left out is taken
    from its certificate.

    Raises:
        InvalidInput: unknown method, a rate or confidence that is no number in (0, 1), scores that are no
            vector of finite numbers, or concepts that do not go with them or with the method.
        TooFewScores: the method cannot keep its promise with so few scores.
    """
    target = _target(method, false_alarm_rate, confidence, append_to.certificate)
    new = finite_scores(scores, "calibration scores")
    names = _all_concepts(new.size, concepts, append_to)
    if names is not None and target.method == "paper":
        raise InvalidInput("'paper' promises nothing, per concept or not: choose split-conformal or pac")
    every = np.concatenate([new, append_to.scores])
    require_enough(every.size, target)
    collected = Calibration(every, None, None if names is None else Groups(names, target.needed))
    return Calibration(collected.scores, _certificate(collected, target, definition_hash), collected.groups)


def manual(
    threshold: float, definition_hash: str, scores: ArrayLike | None = None, groups: Groups | None = None
) -> Calibration:
    """A threshold set by hand; calibration `scores` (n,) that exist stay and go on giving p-values.

    Raises:
        InvalidInput: the threshold is no finite number, or the scores are no vector of finite numbers.
    """
    value = number(threshold, "threshold")
    if not isfinite(value):
        raise InvalidInput(f"threshold must be a finite number, not {threshold!r:.50}")
    kept = np.empty(0) if scores is None else finite_scores(scores, "calibration scores")
    certificate = Certificate(
        threshold=value,
        method="manual",
        false_alarm_rate=None,
        confidence=None,
        n=kept.size,
        k=None,
        expected_rate=None,
        rate_interval=None,
        promise=None,
        created_at=datetime.now(UTC),
        definition_hash=definition_hash,
    )
    return Calibration(kept, certificate, groups)


def _target(
    method: str | None, false_alarm_rate: float | None, confidence: float | None, before: Certificate | None
) -> Target:
    """What was asked for; what was left out is as before, or the default."""
    if before is None or before.false_alarm_rate is None:
        known = Target()
    else:
        known = Target(before.method, before.false_alarm_rate, before.confidence)
    return Target(
        known.method if method is None else method,
        known.false_alarm_rate if false_alarm_rate is None else false_alarm_rate,
        known.confidence if confidence is None else confidence,
    )


def _all_concepts(n: int, concepts: Sequence[str] | None, append_to: Calibration) -> tuple[str, ...] | None:
    """The concepts of n new scores, then of the old ones; None unless the calibration is per concept.

    Raises:
        InvalidInput: they are known of the old scores only, or of the new ones only.
    """
    if append_to.scores.size and (concepts is None) != (append_to.groups is None):
        raise InvalidInput(
            "a calibration is per concept with all its scores or with none: add to it as it was made, or "
            "calibrate again with all images"
        )
    if concepts is None:
        return None
    old = () if append_to.groups is None else append_to.groups.concepts
    return checked_concepts(concepts, n) + old


def _certificate(calibration: Calibration, target: Target, definition_hash: str) -> Certificate:
    found = find_threshold(calibration.scores, target)
    concepts = _concept_thresholds(calibration.pools, target)
    return Certificate(
        threshold=found.value,
        method=target.method,
        false_alarm_rate=target.false_alarm_rate,
        confidence=target.confidence,
        n=found.n,
        k=found.k,
        expected_rate=found.expected_rate,
        rate_interval=found.rate_interval,
        promise=_words(calibration, found, target),
        created_at=datetime.now(UTC),
        definition_hash=definition_hash,
        concepts=concepts,
    )


def _concept_thresholds(pools: Pools, target: Target) -> tuple[ConceptThreshold, ...]:
    found = [_of_concept(name, find_threshold(pool, target)) for name, pool in pools.own.items()]
    if found and not pools.shares_all:
        found.append(_of_concept(None, find_threshold(pools.shared, target)))
    return tuple(found)


def _of_concept(concept: str | None, found: Threshold) -> ConceptThreshold:
    return ConceptThreshold(concept, found.value, found.n, found.k, found.expected_rate, found.rate_interval)


def _words(calibration: Calibration, found: Threshold, target: Target) -> str:
    """The promise; per concept, what it means for whom."""
    pools = calibration.pools
    told = promise(found, target, int((calibration.scores == found.value).sum()))
    if calibration.groups is None:
        return told
    if not pools.own:
        return f"{told} No concept has the {target.needed} scores that a threshold of its own needs."
    told = f"{promise_for_each(target)} {len(pools.own)} of the concepts have thresholds of their own."
    if pools.shares_all:
        return (
            f"{told} The others have too few scores for one even together: their images are judged by the "
            f"threshold of all {found.n} scores, which promises nothing for them alone."
        )
    return f"{told} The others share one, made of {pools.shared.size} scores, with the same promise."
