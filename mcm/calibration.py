"""Thresholds from the scores of in-distribution (ID) images: order statistics and their guarantees."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor, inf, isfinite
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mcm.errors import InvalidInput, TooFewScores
from mcm.scores import Floats, finite_scores

DEFAULT_METHOD = "split-conformal"
DEFAULT_FALSE_ALARM_RATE = 0.05
DEFAULT_CONFIDENCE = 0.95
INTERVAL = (0.05, 0.95)  # quantiles: 90 % of calibrations realise a rate between them


@dataclass(frozen=True)
class Certificate:
    """A threshold and what it promises. OOD when score < threshold.

    `false_alarm_rate` is the target, `expected_rate` the rate to expect on average over calibrations,
    `rate_interval` a 90 % interval of the rate that this one calibration realises; rates are fractions.
    Both hold for scores that do not tie; with ties the true rates are lower. `n` scores were used, and
    the threshold is the `k`-th smallest. None wherever the method promises nothing: a manual threshold
    has only `threshold`, `n`, `created_at` and `definition_hash`.
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
    """ID scores (n,), maybe none, kept in ascending order, and the threshold in force, if there is one.

    Raises:
        InvalidInput: the scores are no vector of finite numbers.
    """

    scores: Floats = field(default_factory=lambda: np.empty(0))
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        ascending = np.sort(finite_scores(self.scores, "calibration scores"))
        ascending.setflags(write=False)
        object.__setattr__(self, "scores", ascending)

    def p_values(self, scores: ArrayLike) -> Floats | None:
        """(1 + #{calibration scores <= s}) / (n + 1) of each score s: (m,) -> (m,), in (0, 1].

        A new ID image has a p-value <= a with chance at most a. None without calibration scores.
        Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023.
        """
        n = self.scores.size
        if n == 0:
            return None
        at_or_below = np.searchsorted(self.scores, np.asarray(scores, dtype=np.float64), side="right")
        return np.asarray((1 + at_or_below) / (n + 1), dtype=np.float64)


UNCALIBRATED = Calibration()


class Threshold(NamedTuple):
    """What a method finds: the threshold and, where it keeps a promise, k, the rates and the words."""

    value: float
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None
    promise: str


def split_conformal(ascending: Floats, false_alarm_rate: float) -> Threshold:
    """The k-th smallest score, k = floor(a (n + 1)): a new ID image falls below it with chance <= a.

    The chance is an average over calibrations; the rate of this one is Beta(k, n + 1 - k) distributed
    (Vovk, "Conditional validity of inductive conformal predictors", ACML 2012), or lower where scores tie.

    Raises:
        TooFewScores: k would be 0.
    """
    n = ascending.size
    rate = Fraction(str(false_alarm_rate))  # the decimal that was meant: 0.29 * 100 is 28.999... in floats
    k = floor(rate * (n + 1))
    if k < 1:
        needed = ceil(1 / rate) - 1
        raise TooFewScores(
            f"{n} in-distribution scores cannot promise a false alarm rate of {_percent(false_alarm_rate)}; "
            f"at least {needed} are needed, {needed - n} more",
            needed=needed,
        )
    value = float(ascending[k - 1])
    low, high = _beta_interval(k, n + 1 - k)
    promise = (
        f"On average over calibrations, at most {_percent(false_alarm_rate)} of new in-distribution images "
        f"are called OOD (expected {_percent(k / (n + 1))}); with 90 % chance this calibration's own rate "
        f"lies between {_percent(low)} and {_percent(high)}."
    )
    tied = int((ascending == value).sum())
    if tied > 1:
        promise += f" {tied} of the {n} scores equal the threshold, so the rates may be lower than these."
    return Threshold(value, k, k / (n + 1), (low, high), promise)


def paper(ascending: Floats, false_alarm_rate: float) -> Threshold:
    """The empirical quantile with linear interpolation, as papers compute it. It promises nothing.

    Raises:
        TooFewScores: there is no score at all.
    """
    if ascending.size == 0:
        raise TooFewScores("a quantile needs at least 1 in-distribution score", needed=1)
    promise = (
        "None: the empirical quantile calls more than the target OOD when there are few scores "
        "(over 9 % instead of 5 % with 19). Use split-conformal for a guarantee."
    )
    return Threshold(float(np.quantile(ascending, false_alarm_rate)), None, None, None, promise)


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

    `method` is a key of METHODS, `false_alarm_rate` the target, in (0, 1).

    Raises:
        InvalidInput: unknown method, a rate that is no number in (0, 1), or scores that are no vector of
            finite numbers.
        TooFewScores: the method cannot keep its promise with so few scores.
    """
    if method not in tuple(METHODS):  # not the dict itself, which cannot be asked for a list
        raise InvalidInput(f"there is no calibration method {method!r}; choose one of {', '.join(METHODS)}")
    rate = _number(false_alarm_rate, "false_alarm_rate")
    if not 0 < rate < 1:
        raise InvalidInput(f"false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}")
    ascending = np.sort(finite_scores(scores, "calibration scores"))
    found = METHODS[method](ascending, rate)
    certificate = Certificate(
        threshold=found.value,
        method=method,
        false_alarm_rate=rate,
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


def manual(threshold: float, definition_hash: str, scores: ArrayLike | None = None) -> Calibration:
    """A threshold set by hand; calibration `scores` (n,) that exist stay and go on giving p-values.

    Raises:
        InvalidInput: the threshold is no finite number, or the scores are no vector of finite numbers.
    """
    value = _number(threshold, "threshold")
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
    return Calibration(kept, certificate)


def _number(value: object, what: str) -> float:
    """A number of any kind as a float, infinite where it is too large for one. Texts are no numbers."""
    if not isinstance(value, Real):
        raise InvalidInput(f"{what} must be a number, not {value!r:.50}")
    try:
        return float(value)
    except OverflowError:
        return inf


def _beta_interval(a: int, b: int) -> tuple[float, float]:
    """The INTERVAL quantiles of Beta(a, b)."""
    from scipy.special import betaincinv  # slow to import, and only calibration needs it

    low, high = betaincinv(a, b, INTERVAL)
    return float(low), float(high)


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"
