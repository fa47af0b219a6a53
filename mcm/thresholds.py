"""How many in-distribution (ID) scores may lie below a threshold: order statistics and their guarantees."""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, inf, log, log1p
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from mcm.errors import InvalidInput, TooFewScores
from mcm.scores import Floats

METHODS = ("split-conformal", "pac", "paper")
DEFAULT_METHOD = "split-conformal"
DEFAULT_FALSE_ALARM_RATE = 0.05
DEFAULT_CONFIDENCE = 0.95
INTERVAL = (0.05, 0.95)  # quantiles: 90 % of calibrations realise a rate between them
_EQUAL = 1 + 1e-12  # chances that are equal on paper may differ by this factor in floats


class Threshold(NamedTuple):
    """A threshold: the `k`-th smallest of `n` scores, the false alarm rate to expect and its 90 % interval.

    `value` alone, and None elsewhere, where the method promises nothing.
    """

    value: float
    n: int
    k: int | None
    expected_rate: float | None
    rate_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Target:
    """What a threshold shall keep: at most `false_alarm_rate` of new ID images called OOD.

    `split-conformal` keeps it on average over calibrations, `pac` for this very calibration with
    `confidence`, `paper` not at all. `confidence` counts for `pac` only and is None otherwise.

    Raises:
        InvalidInput: unknown method, or a rate or confidence that is no number in (0, 1).
    """

    method: str = DEFAULT_METHOD
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE
    confidence: float | None = DEFAULT_CONFIDENCE

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInput(
                f"there is no calibration method {self.method!r}; choose one of {', '.join(METHODS)}"
            )
        given = DEFAULT_CONFIDENCE if self.confidence is None else self.confidence
        confidence = share(given, "confidence")
        object.__setattr__(self, "false_alarm_rate", share(self.false_alarm_rate, "false_alarm_rate"))
        object.__setattr__(self, "confidence", confidence if self.method == "pac" else None)

    @property
    def needed(self) -> int:
        """The smallest number of scores with which the promise can be kept."""
        if self.method == "split-conformal":
            return ceil(1 / _decimal(self.false_alarm_rate)) - 1
        if self.method == "pac":
            return _needed_for_pac(self.false_alarm_rate, self._risk)
        return 1

    def rank(self, n: int) -> int:
        """k, so that the k-th smallest of n scores keeps the promise; 0 if none does."""
        if self.method == "pac":
            return _pac_rank(n, self.false_alarm_rate, self._risk)
        return floor(_decimal(self.false_alarm_rate) * (n + 1))

    @property
    def _risk(self) -> float:
        """1 - confidence, as it was meant: 1 - 0.95 is 0.050000000000000044 in floats."""
        return float(1 - _decimal(self.confidence or 0))


def find_threshold(ascending: Floats, target: Target) -> Threshold:
    """The threshold (OOD when score < threshold) that keeps the target, from ID scores (n,), ascending.

    `split-conformal`: the k-th smallest, k = floor(a (n + 1)). The rate of one calibration is
    Beta(k, n + 1 - k) distributed (Vovk, "Conditional validity of inductive conformal predictors", ACML
    2012), or lower where scores tie. `pac`: the largest k with P(Bin(n, a) >= k) >= confidence (the same
    paper's Proposition 2b). `paper`: the empirical quantile with linear interpolation, as papers compute it.

    Raises:
        TooFewScores: no order statistic keeps the promise.
    """
    n = ascending.size
    require_enough(n, target)
    if target.method == "paper":
        return Threshold(float(np.quantile(ascending, target.false_alarm_rate)), n, None, None, None)
    k = target.rank(n)
    return Threshold(float(ascending[k - 1]), n, k, k / (n + 1), _beta_interval(k, n + 1 - k))


def require_enough(n: int, target: Target) -> None:
    """Refuse n scores that cannot keep the promise.

    Raises:
        TooFewScores: says how many are needed.
    """
    needed = target.needed
    if n >= needed:
        return
    if target.method == "paper":
        raise TooFewScores("a quantile needs at least 1 in-distribution score", needed=needed)
    sure = f" with {percent(target.confidence)} confidence" if target.confidence else ""
    raise TooFewScores(
        f"{n} in-distribution scores cannot promise a false alarm rate of {percent(target.false_alarm_rate)}"
        f"{sure}; at least {needed} are needed, {needed - n} more",
        needed=needed,
    )


def promise(found: Threshold, target: Target, tied: int) -> str:
    """What the threshold promises, in plain words; `tied` scores are equal to it."""
    if found.k is None or found.expected_rate is None or found.rate_interval is None:
        return (
            "None: the empirical quantile calls more than the target OOD when there are few scores "
            "(over 9 % instead of 5 % with 19). Use split-conformal for a guarantee."
        )
    low, high = found.rate_interval
    sure = (
        f"With {percent(target.confidence)} confidence"
        if target.confidence
        else "On average over calibrations"
    )
    told = (
        f"{sure}, at most {percent(target.false_alarm_rate)} of new in-distribution images are called OOD "
        f"(expected {percent(found.expected_rate)}); with 90 % chance this calibration's own rate lies "
        f"between {percent(low)} and {percent(high)}."
    )
    if tied > 1:
        told += f" {tied} of the {found.n} scores equal the threshold, so the rates may be lower than these."
    return told


def promise_for_each(target: Target) -> str:
    """What every threshold of a calibration per concept promises, in plain words."""
    sure = (
        f"Per concept, for each with {percent(target.confidence)} confidence"
        if target.confidence
        else "Per concept, on average over calibrations"
    )
    return (
        f"{sure}, at most {percent(target.false_alarm_rate)} of the new in-distribution images that resemble "
        "it most are called OOD."
    )


def share(value: object, what: str) -> float:
    """A number in (0, 1).

    Raises:
        InvalidInput: it is anything else; the message starts with `what`.
    """
    given = number(value, what)
    if not 0 < given < 1:
        raise InvalidInput(f"{what} must lie between 0 and 1, not {value!r:.50}")
    return given


def number(value: object, what: str) -> float:
    """A number of any kind as a float, infinite where it is too large for one. Texts are no numbers.

    Raises:
        InvalidInput: it is no number; the message starts with `what`.
    """
    if not isinstance(value, Real):
        raise InvalidInput(f"{what} must be a number, not {value!r:.50}")
    try:
        return float(value)
    except OverflowError:
        return inf


def percent(rate: float) -> str:
    """A share in words."""
    return f"{100 * rate:.4g} %"


def _pac_rank(n: int, rate: float, risk: float) -> int:
    """The largest k with P(Bin(n, a) < k) <= risk."""
    from scipy.special import bdtr  # slow to import, and only calibration needs it

    def chance_of_at_most(j: int) -> Any:
        return bdtr(j, n, rate)

    return bisect_right(range(n), risk * _EQUAL, key=chance_of_at_most)


def _needed_for_pac(rate: float, risk: float) -> int:
    """The smallest n with P(Bin(n, a) = 0) = (1 - a)^n <= risk."""
    return max(1, ceil(log(risk * _EQUAL) / log1p(-rate)))


def _beta_interval(a: int, b: int) -> tuple[float, float]:
    """The INTERVAL quantiles of Beta(a, b)."""
    from scipy.special import betaincinv

    low, high = betaincinv(a, b, INTERVAL)
    return float(low), float(high)


def _decimal(rate: float) -> Fraction:
    """The decimal that was meant: 0.29 * 100 is 28.999... in floats."""
    return Fraction(str(rate))
