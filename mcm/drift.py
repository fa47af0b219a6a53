"""Drift: do new images still look like the calibration images? A test that may be read after every image.

The calibration scores are cut into rank bins. Of n calibration images and t images since, all of one kind,
the next one falls into bin j with chance (c_j + seen_j) / (n + 1 + t): c_j are the gaps between neighbouring
calibration scores that lie in the bin (together n + 1), seen_j the images that fell into it. Bettors stake
their wealth on other chances. While nothing drifts, their wealth is a martingale that begins at 1, and the
chance that it ever reaches 1 / delta is at most delta, however long one watches (Ville's inequality).

p-values against one frozen calibration set depend on each other, and a martingale on them alarms falsely:
n = 100 and delta = 0.01 gave 37 % false alarms. See Vovk, Gammerman and Shafer, "Algorithmic Learning in a
Random World", chapter 8, for conformal martingales, and arXiv 2602.13848.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.calibration import Calibration
from mcm.errors import NotCalibrated
from mcm.scores import Floats

FALSE_ALARM = 0.01  # delta: the chance that the alarm is ever raised though nothing drifts
RECENT = 1_000  # the recent images are so many or more, fewer than twice as many
BAND = 0.95
SCHEME = 1  # of bins and bettors: a `Drift` made under another one cannot go on

Counts = NDArray[np.int64]
Places = NDArray[np.uint8]  # small, since they may have to wait in memory
Marks = NDArray[np.bool_]

# Where bins end, as shares of the calibration images: finer at the ends, where drift shows first. Storey's
# share needs the one at 0.5. A first or last bin of fewer gaps than _FEWEST would look rich by chance.
_FEWEST = 5
_ENDS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99])
# Each bettor expects that a share of the images comes from elsewhere, and lies the nearer to one end of the
# ranks the smaller the power.
_SHARES = (0.02, 0.1, 0.4)
_POWERS = (0.25, 0.5)
_BETTORS = 2 * len(_SHARES) * len(_POWERS)
_AT_ONCE = 0.5  # of the wealth is staked before the first image, for drift that is there from the start
_PATIENCE = 1_000  # images after which half of the rest is staked, for drift that comes later


@dataclass(frozen=True, eq=False)
class Bins:
    """B rank bins of n calibration scores.

    `edges` (B - 1,), ascending, are the calibration scores at which the next bin begins, `ties` (B - 1,)
    their tie-breakers in [0, 1), `gaps` (B,) the gaps between calibration scores in each bin, n + 1 in all.
    """

    edges: Floats
    ties: Floats
    gaps: Counts

    def locate(self, scores: ArrayLike) -> Places:
        """The first and last bin that each score may fall into: (m,) -> (m, 2); two only if it ties."""
        new = np.asarray(scores, dtype=np.float64)
        ends = [np.searchsorted(self.edges, new, side=side) for side in ("left", "right")]
        return np.stack(ends, axis=1).astype(np.uint8)

    def settle(self, located: Places, seed: int) -> Counts:
        """One bin for each image, those that tie at random: located (m, 2) -> (m,)."""
        first, last = located[:, 0].astype(np.int64), located[:, 1]
        if (first == last).all():
            return first
        own = np.random.default_rng([1, seed]).random((len(located), 1))
        places = np.arange(len(self.edges))
        passed = (places >= first[:, None]) & (places < last[:, None]) & (self.ties < own)
        return np.asarray(first + passed.sum(axis=1))

    @cached_property
    def upper(self) -> int:
        """The first of the bins whose scores have p-values above 0.5."""
        return int(np.searchsorted(self.gaps.cumsum(), self.gaps.sum() // 2)) + 1

    @cached_property
    def odds(self) -> Floats:
        """How much more than before each bettor expects each bin to get, (K, B)."""
        ends = np.concatenate([[0.0], self.gaps.cumsum() / self.gaps.sum()])
        low = [np.diff(ends**power) / np.diff(ends) for power in _POWERS]
        high = [np.diff(1 - (1 - ends) ** power) / np.diff(ends) for power in _POWERS]
        return np.array([1 - share + share * shape for shape in (*low, *high) for share in _SHARES])


def bins_of(calibration: Calibration) -> Bins:
    """The rank bins of the calibration scores.

    Raises:
        NotCalibrated: there are none.
    """
    n = calibration.scores.size
    if n == 0:
        raise NotCalibrated(
            "drift is told from calibration scores, and there are none: calibrate with in-distribution "
            "images (a threshold set by hand is not enough)"
        )
    ends = np.unique(((n + 1) * _ENDS + 1e-9).astype(np.int64))  # 100 * 0.29 is 28.999...
    ends = ends[((ends >= _FEWEST) & (ends <= n + 1 - _FEWEST)) | (ends == (n + 1) // 2)]
    ties = np.random.default_rng([0]).random(n)
    order = np.lexsort((ties, calibration.scores))
    gaps = np.diff(np.concatenate([[0], ends, [n + 1]]))
    return Bins(calibration.scores[order][ends - 1], ties[order][ends - 1], gaps)


@dataclass(frozen=True)
class Tally:
    """Counts of images: all, those called OOD, those with a p-value above 0.5."""

    images: int = 0
    rejected: int = 0
    upper: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.images + other.images, self.rejected + other.rejected, self.upper + other.upper)

    @property
    def rejected_share(self) -> float | None:
        """The share of images that were called OOD; None without images."""
        return self.rejected / self.images if self.images else None

    @property
    def ood_share(self) -> float | None:
        """Storey's estimate of the share of OOD images, see `mcm.fdr.ood_share`; None without images."""
        return max(0.0, 1 - (1 + self.upper) / (0.5 * self.images)) if self.images else None


@dataclass(frozen=True)
class Drift:
    """What is kept of the images since the calibration: counts and wealths, no scores.

    `seen` (B,) are the images in each bin, `log_wealths` (K,) what each bettor has, `halves` the older and
    the newer half of the recent images. `alarm_after` is the number of images after which the wealth first
    reached 1 / FALSE_ALARM.
    """

    seen: tuple[int, ...]
    log_wealths: tuple[float, ...]
    halves: tuple[Tally, Tally]
    alarm_after: int | None

    @property
    def images(self) -> int:
        """All images since the calibration."""
        return sum(self.seen)

    @property
    def recent(self) -> Tally:
        """The recent images."""
        return self.halves[0] + self.halves[1]

    @property
    def log_wealth(self) -> float:
        """The natural logarithm of all wealth; 0 at the start."""
        return float(np.logaddexp.reduce([*self.log_wealths, log(_unstaked(self.images))]))


def begin(bins: Bins) -> Drift:
    """No images yet."""
    share = log(_AT_ONCE / _BETTORS)
    return Drift((0,) * len(bins.gaps), (share,) * _BETTORS, (Tally(), Tally()), None)


def advance(bins: Bins, drift: Drift, located: Places, rejected: Marks) -> Drift:
    """`drift` after m more images, in their order.

    `located` (m, 2) comes from `Bins.locate`; `rejected` (m,) says which were called OOD, all False without
    a threshold. Ties are broken at random with the number of images so far as the seed, so that the same
    images after the same state give the same state.
    """
    while len(located):
        older, newer = drift.halves
        halves = (newer, Tally()) if newer.images >= RECENT else (older, newer)
        room = RECENT - halves[1].images
        drift = _advance_within(bins, drift, halves, located[:room], rejected[:room])
        located, rejected = located[room:], rejected[room:]
    return drift


def rejected_band(calibration: Calibration, m: int) -> tuple[float, float] | None:
    """Where the rejected share of m images lies with chance BAND, or more, if nothing has drifted.

    The threshold is the k-th smallest of n calibration scores: the rejected among m further images are
    Beta-binomial with Beta(k, n + 1 - k), over calibrations and images. A threshold that is no order
    statistic, with L calibration scores below it, is taken for one whose rate is Beta(L + 1, n + 1 - L).
    None without images or a threshold, and where each concept has a threshold of its own.
    """
    certificate, n = calibration.certificate, calibration.scores.size
    if certificate is None or certificate.concepts or m == 0 or n == 0:
        return None
    from scipy.special import betaln  # slow to import, and only reports need it

    if certificate.k is not None and certificate.n == n:
        a, b = certificate.k, n + 1 - certificate.k
    else:
        below = int(np.searchsorted(calibration.scores, certificate.threshold, side="left"))
        a, b = below + 1, n + 1 - below
    r = np.arange(m + 1)
    log_chances = betaln(r + a, m - r + b) - betaln(a, b) - betaln(r + 1, m - r + 1) - log(m + 1)
    cumulative = np.exp(log_chances).cumsum()
    tail = (1 - BAND) / 2
    low, high = np.searchsorted(cumulative, [tail, 1 - tail])
    return float(low / m), float(min(high, m) / m)


def _advance_within(
    bins: Bins, drift: Drift, halves: tuple[Tally, Tally], located: Places, rejected: Marks
) -> Drift:
    """`advance` by images that all fit in the newer half."""
    fallen = bins.settle(located, drift.images)
    counts = np.bincount(fallen, minlength=len(bins.gaps))
    log_wealths, path = _bet(bins, drift, fallen)
    alarm_after = drift.alarm_after
    if alarm_after is None and path.max() >= -log(FALSE_ALARM):
        alarm_after = drift.images + int(np.argmax(path >= -log(FALSE_ALARM))) + 1
    block = Tally(len(fallen), int(rejected.sum()), int(counts[bins.upper :].sum()))
    return Drift(
        seen=tuple((np.array(drift.seen) + counts).tolist()),
        log_wealths=tuple(log_wealths.tolist()),
        halves=(halves[0], halves[1] + block),
        alarm_after=alarm_after,
    )


def _bet(bins: Bins, drift: Drift, fallen: Counts) -> tuple[Floats, Floats]:
    """Log wealths of the bettors (K,) at the end, and log of all wealth after each image (m,).

    A bettor's wealth w before an image in bin b becomes (w + put in) * odds_b / (mean odds under the
    chances): its expectation under the chances is w + put in, and what is put in was nobody's before.
    """
    m = len(fallen)
    t = drift.images + np.arange(m)
    fell = np.zeros((m, len(bins.gaps)))
    fell[np.arange(m), fallen] = 1
    seen = drift.seen + fell.cumsum(axis=0) - fell
    chances = (bins.gaps + seen) / (bins.gaps.sum() + t)[:, None]
    returns = np.log(bins.odds).T[fallen] - np.log(chances @ bins.odds.T)
    grown = returns.cumsum(axis=0)
    put_in = np.log((_unstaked(t) / (_PATIENCE + t + 1)) / _BETTORS)
    stakes = np.vstack([drift.log_wealths, put_in[:, None] - (grown - returns)])
    log_wealths = grown + np.logaddexp.accumulate(stakes)[1:]
    most = log_wealths.max(axis=1).clip(min=0)
    staked = np.exp(log_wealths - most[:, None]).sum(axis=1)
    return log_wealths[-1], most + np.log(staked + _unstaked(t + 1) * np.exp(-most))


def _unstaked(t: ArrayLike) -> Floats:
    """What is in no bettor's hands after t images."""
    return (1 - _AT_ONCE) * _PATIENCE / (_PATIENCE + np.asarray(t, dtype=np.float64))
