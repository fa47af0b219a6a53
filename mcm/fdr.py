"""Which images of a batch are OOD, with a bound on the share of false ones: the false discovery rate (FDR).

A threshold bounds how many ID images are called OOD; these procedures bound, on average, how many of those
called OOD are ID images. They need the p-values of the whole batch at once, from `Calibration.p_values`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.calibration import Calibration
from mcm.errors import InvalidInput, NotCalibrated
from mcm.scores import Floats
from mcm.thresholds import percent, share

METHODS = ("benjamini-hochberg", "storey")
DEFAULT_METHOD = "benjamini-hochberg"
_LAMBDA = 0.5  # p-values above it are taken for those of ID images
_EQUAL = 1 + 1e-12  # p-values and bounds that are equal on paper may differ by this factor in floats


@dataclass(frozen=True, eq=False)
class Discoveries:
    """The images of a batch that are called OOD so that the FDR is at most `q`.

    `found` (m,) marks them. `smallest_possible` is the smallest number of discoveries that m images and so
    many calibration scores allow at all, None if they allow none: fewer cannot be found, whatever they show.
    `caution` says so in words where it is not 1.
    """

    q: float
    method: str
    found: NDArray[np.bool_]
    smallest_possible: int | None
    caution: str | None


def discover(
    p_values: ArrayLike, smallest_p_values: ArrayLike, q: float, *, method: str = DEFAULT_METHOD
) -> Discoveries:
    """Discoveries among m images with an FDR of at most `q`, in (0, 1).

    `p_values` (m,) are their p-values, `smallest_p_values` (m,) the least that these could have been, see
    `Calibration.smallest_p_values`. `benjamini-hochberg`: all p <= q r / m for the largest r with as many of
    them (Benjamini and Hochberg, JRSS B 1995; for conformal p-values Bates et al., Annals of Statistics
    2023, arXiv 2104.08279). `storey`: the same with m replaced by the estimated number of ID images,
    (1 + #{p > 0.5}) / 0.5, among p <= 0.5 (Storey, Taylor and Siegmund, JRSS B 2004); it finds more where
    many images are OOD.

    Raises:
        InvalidInput: p-values outside [0, 1], of different lengths; `q` or `method` wrong.
    """
    p, least = _checked(p_values), _checked(smallest_p_values)
    if p.size != least.size:
        raise InvalidInput(f"{p.size} p-values need as many smallest p-values, not {least.size}")
    if method not in METHODS:
        raise InvalidInput(f"there is no FDR method {method!r}; choose one of {', '.join(METHODS)}")
    rate = share(q, "fdr")
    tests, highest = (float(p.size), 1.0) if method == DEFAULT_METHOD else (_id_images(p), _LAMBDA)
    bounds = np.asarray(rate * np.arange(1, p.size + 1) / tests * _EQUAL, dtype=np.float64)
    possible = _first_rank(np.sort(least), bounds)
    return Discoveries(rate, method, _step_up(p, bounds, highest), possible, _caution(least, rate, possible))


def discover_images(
    calibration: Calibration,
    scores: ArrayLike,
    concepts: Sequence[str],
    q: float,
    *,
    method: str = DEFAULT_METHOD,
) -> Discoveries:
    """`discover` among images with these scores and most similar concepts, both (m,).

    Raises:
        NotCalibrated: there are no calibration scores.
        InvalidInput: as `discover`.
    """
    require_p_values(calibration)
    p, least = calibration.p_values(scores, concepts), calibration.smallest_p_values(len(concepts), concepts)
    assert p is not None  # require_p_values
    assert least is not None
    return discover(p, least, q, method=method)


def require_p_values(calibration: Calibration) -> None:
    """Refuse a calibration that gives no p-values.

    Raises:
        NotCalibrated: it has no scores.
    """
    if calibration.scores.size == 0:
        raise NotCalibrated(
            "the FDR needs p-values, and there are no calibration scores: calibrate with in-distribution "
            "images (a threshold set by hand gives no p-values)"
        )


def ood_share(p_values: ArrayLike) -> float | None:
    """Storey's estimate of the share of OOD images among m, from their p-values (m,); None if m is 0.

    1 - (1 + #{p > 0.5}) / (0.5 m), at least 0: it tends to be below the true share, since OOD images may
    have high p-values too. The images must be others than those that gave the calibration scores: a set's
    p-values against itself are uniform and cannot show anything.

    Raises:
        InvalidInput: p-values outside [0, 1].
    """
    p = _checked(p_values)
    return None if p.size == 0 else max(0.0, 1 - _id_images(p) / p.size)


def _step_up(p: Floats, bounds: Floats, highest: float) -> NDArray[np.bool_]:
    """The p-values up to the largest sorted one that is within its bound and `highest`."""
    ascending = np.sort(p)
    within = np.flatnonzero((ascending <= bounds) & (ascending <= highest))
    return p <= (ascending[within[-1]] if within.size else -1.0)


def _first_rank(ascending: Floats, bounds: Floats) -> int | None:
    """The smallest r for which r p-values can be as low as the r-th bound; r = ceil(m / (q (n + 1)))."""
    possible = np.flatnonzero(ascending <= bounds)
    return int(possible[0]) + 1 if possible.size else None


def _caution(least: Floats, q: float, possible: int | None) -> str | None:
    m = least.size
    if m == 0 or possible == 1:
        return None
    n, wanted = round(1 / least.min()) - 1, ceil(m / q) - 1
    impossible = (
        "no discovery is possible"
        if possible is None
        else f"fewer than {possible} discoveries are impossible, except none"
    )
    return (
        f"with {n} calibration scores and {m} images at FDR {percent(q)}, {impossible}, whatever the images "
        f"show; calibrate with {wanted} images or more to find single ones"
    )


def _id_images(p: Floats) -> float:
    """Storey's estimate of the number of ID images: (1 + #{p > 0.5}) / 0.5."""
    return (1 + int((p > _LAMBDA).sum())) / (1 - _LAMBDA)


def _checked(p_values: ArrayLike) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InvalidInput("p-values must be a list of numbers from 0 to 1")
    return p
