"""Thresholds from the scores of in-distribution images: order statistics and their guarantees."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mcm.errors import InvalidInput, TooFewScores
from mcm.scores import Floats

DEFAULT_METHOD = "split-conformal"
DEFAULT_FALSE_ALARM_RATE = 0.05
DEFAULT_CONFIDENCE = 0.95
INTERVAL_MASS = 0.9


@dataclass(frozen=True)
class Certificate:
    """A threshold and what it promises. OOD when score < threshold.

    `false_alarm_rate` is the target, `expected_rate` the rate to expect on average over calibrations,
    `rate_interval` a 90 % interval of the rate that this one calibration realises; rates are fractions.
    A manual threshold promises nothing: method "manual", and null wherever nothing is known.
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


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ascending in-distribution scores (n,), maybe none, and the threshold in force, if there is one."""

    scores: Floats = field(default_factory=lambda: np.empty(0))
    certificate: Certificate | None = None

    def p_values(self, scores: ArrayLike) -> Floats | None:
        """Share of in-distribution scores at or below each score, (1 + #{cal <= s}) / (n + 1), in (0, 1].

        None without calibration scores. Bates et al., Annals of Statistics 2023, eq. 2.
        """
        n = self.scores.size
        if n == 0:
            return None
        below = np.searchsorted(self.scores, np.asarray(scores, dtype=np.float64), side="right")
        return np.asarray((1 + below) / (n + 1), dtype=np.float64)


UNCALIBRATED = Calibration()


class Threshold(NamedTuple):
    """What a method finds: the threshold and, where it keeps a promise, k, the rates and the words."""

    value: float
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None
    promise: str


def split_conformal(scores: Floats, false_alarm_rate: float) -> Threshold:
    """The k-th smallest score, k = floor(a (n + 1)): a new ID image falls below it with chance <= a.

    The chance is an average over calibrations; the rate of this one is Beta(k, n + 1 - k) distributed
    (Vovk, "Conditional validity of inductive conformal predictors", 2012).

    Raises:
        TooFewScores: k would be 0.
    """
    from scipy.stats import beta  # half a second to import, and only calibration needs it

    n = scores.size
    rate = Fraction(str(false_alarm_rate))
    k = floor(rate * (n + 1))
    if k < 1:
        needed = ceil(1 / rate) - 1
        raise TooFewScores(
            f"{n} in-distribution scores cannot promise a false alarm rate of {false_alarm_rate:g}; "
            f"at least {needed} are needed, {needed - n} more",
            needed=needed,
        )
    low, high = beta.interval(INTERVAL_MASS, k, n + 1 - k)
    promise = (
        f"On average over calibrations, at most {false_alarm_rate:.3%} of new in-distribution images are "
        f"called OOD (expected {k / (n + 1):.3%}); with 90 % chance this calibration's own rate lies "
        f"between {low:.3%} and {high:.3%}."
    )
    return Threshold(float(scores[k - 1]), k, k / (n + 1), (float(low), float(high)), promise)


def paper(scores: Floats, false_alarm_rate: float) -> Threshold:
    """The empirical quantile with linear interpolation, as papers compute it. It promises nothing.

    Raises:
        TooFewScores: there is no score at all.
    """
    if scores.size == 0:
        raise TooFewScores("a quantile needs at least 1 in-distribution score", needed=1)
    promise = (
        "None: the empirical quantile calls more than the target OOD when there are few scores "
        "(9.3 % instead of 5 % with 19). Use split-conformal for a guarantee."
    )
    return Threshold(float(np.quantile(scores, false_alarm_rate)), None, None, None, promise)


METHODS: dict[str, Callable[[Floats, float], Threshold]] = {
    "split-conformal": split_conformal,
    "paper": paper,
}


def calibrate(
    scores: ArrayLike,
    definition_hash: str,
    *,
    method: str = DEFAULT_METHOD,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
) -> Calibration:
    """A calibration from in-distribution scores (n,) that were made under `definition_hash`.

    Raises:
        InvalidInput: unknown method, a rate outside (0, 1), or scores that are not finite.
        TooFewScores: the method cannot keep its promise with so few scores.
    """
    if method not in METHODS:
        raise InvalidInput(f"there is no calibration method {method!r}; choose one of {', '.join(METHODS)}")
    if not 0 < false_alarm_rate < 1:
        raise InvalidInput(f"false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}")
    ascending = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if not np.isfinite(ascending).all():
        raise InvalidInput("calibration scores must be finite numbers")
    found = METHODS[method](ascending, false_alarm_rate)
    certificate = Certificate(
        threshold=found.value,
        method=method,
        false_alarm_rate=false_alarm_rate,
        confidence=None,
        n=ascending.size,
        k=found.k,
        expected_rate=found.expected_rate,
        rate_interval=found.rate_interval,
        promise=found.promise,
        created_at=datetime.now(UTC),
        definition_hash=definition_hash,
    )
    return Calibration(ascending, certificate)


def manual(threshold: float, definition_hash: str, scores: Floats | None = None) -> Calibration:
    """A threshold set by hand; calibration `scores` that exist stay and go on giving p-values.

    Raises:
        InvalidInput: the threshold is not finite.
    """
    if not np.isfinite(threshold):
        raise InvalidInput(f"threshold must be a finite number, not {threshold}")
    kept = np.empty(0) if scores is None else scores
    certificate = Certificate(
        threshold=float(threshold),
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
    return Calibration(kept, certificate)
