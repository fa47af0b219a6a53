"""Scores: pure functions of a similarity matrix. Higher means more in-distribution, always.

`similarities` is (n, k), k >= 1: the cosines of n images to k concepts, in [-1, 1]; `temperature` is
a number from 1e-6 to 1e6, anything else raises InvalidDefinition. The answer is (n,) float64, each row's
score computed from that row alone. Arithmetic is float64: with 1000 concepts and T = 1 all MCM scores lie
within 0.0003, and rounding ruins the ranking.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.errors import InvalidDefinition, InvalidInput

Floats = NDArray[np.float64]
ScoreFunction = Callable[[ArrayLike, float], Floats]

MIN_TEMPERATURE = 1e-6
MAX_TEMPERATURE = 1e6
DEFAULT_LOCAL_WEIGHT = 0.5  # lambda in the authors' script for ImageNet
MAX_LOCAL_WEIGHT = 1e6
_LARGEST_SCORE = 1e300  # so that the difference of two scores is finite too


def probabilities(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Softmax of the similarities over the concepts, p = softmax(s / T): (n, k), rows sum to 1."""
    weights = _weights(similarities, temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def mcm(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Maximum concept matching, max p: (n,), in [1/k, 1]. Ming et al., NeurIPS 2022."""
    # The weight of the best concept is exp(0) = 1.
    return np.asarray(1 / _weights(similarities, temperature).sum(axis=1))


def max_logit(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Largest similarity, max s: (n,), in [-1, 1]; the temperature plays no part.

    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022.
    """
    checked_temperature(temperature)  # refused here too: what is wrong does not depend on the score
    return np.asarray(np.asarray(similarities, dtype=np.float64).max(axis=1))


def energy(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative free energy, T * logsumexp(s / T): (n,), in [max s, max s + T ln k].

    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020.
    """
    spread = _log_sum_exp(_below_best(similarities, temperature))
    return max_logit(similarities) + checked_temperature(temperature) * spread


def entropy(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative entropy of p, sum p ln p: (n,), in [-ln k, 0]."""
    below = _below_best(similarities, temperature)
    log_p = below - _log_sum_exp(below)[:, None]
    return np.asarray((np.exp(log_p) * log_p).sum(axis=1))


def variance(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Population variance of p over the concepts: (n,), in [0, (k - 1) / k^2]."""
    return np.asarray(probabilities(similarities, temperature).var(axis=1))


def local_mcm(patch_similarities: ArrayLike, patches: int, temperature: float = 1.0) -> Floats:
    """Maximum concept matching of each image's best patch, L-MCM: max p over patches and concepts, (n,).

    `patch_similarities` (n * patches, k): the cosines of all patches, image by image. Miyai et al.,
    "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection", IJCV
    2025.
    """
    return np.asarray(mcm(patch_similarities, temperature).reshape(-1, patches).max(axis=1))


def gl_mcm(global_scores: Floats, local_scores: Floats, local_weight: float = DEFAULT_LOCAL_WEIGHT) -> Floats:
    """MCM + local_weight * L-MCM of n images: (n,), in [1/k, 1] * (1 + local_weight). See `local_mcm`."""
    return np.asarray(global_scores + local_weight * local_scores)


def neglabel(
    concept_energies: Floats, negative_similarities: ArrayLike, groups: int, temperature: float
) -> Floats:
    """The share of the softmax that falls on the concepts, mean over the groups: (n,), in [0, 1].

    `concept_energies` (n,): `energy` of the concepts at this temperature. `negative_similarities` (n, m): the
    cosines to the negatives, group by group; the softmax of a group is over all concepts and the m / groups
    negatives in it. Jiang et al., "Negative Label Guided OOD Detection with Pretrained Vision-Language
    Models", ICLR 2024.
    """
    similarities = np.asarray(negative_similarities, dtype=np.float64)
    n, m = similarities.shape
    of_groups = energy(similarities.reshape(n * groups, m // groups), temperature).reshape(n, groups)
    log_odds_against = (of_groups - concept_energies[:, None]) / temperature
    return np.asarray(np.exp(-np.logaddexp(0, log_odds_against)).mean(axis=1))


@dataclass(frozen=True)
class Score:
    """A named score.

    `contrasts`: it compares the concepts and is constant when they do not differ. `local`: it has a second
    part that comes from the patches of the image; `function` gives the first, see `gl_mcm`. `negatives`: it
    holds the concepts against negative words; `function` gives what they have to beat, see `neglabel`.
    """

    name: str
    function: ScoreFunction
    contrasts: bool
    local: bool = False
    negatives: bool = False


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("mcm", mcm, contrasts=True),
        Score("max-logit", max_logit, contrasts=False),
        Score("energy", energy, contrasts=False),
        Score("entropy", entropy, contrasts=True),
        Score("variance", variance, contrasts=True),
        Score("gl-mcm", mcm, contrasts=True, local=True),
        Score("neglabel", energy, contrasts=False, negatives=True),
    )
}


def get_score(name: str) -> Score:
    """The score called `name`.

    Raises:
        InvalidDefinition: there is no such score.
    """
    if name not in tuple(SCORES):  # not the dict itself, which cannot be asked for a list
        raise InvalidDefinition(f"there is no score {name!r}; choose one of {', '.join(SCORES)}")
    return SCORES[name]


def checked_temperature(temperature: float) -> float:
    """The temperature as a float, so that 1 and 1.0 have one definition hash.

    Raises:
        InvalidDefinition: it is no number in [1e-6, 1e6].
    """
    try:
        value = float(temperature)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:
        raise InvalidDefinition(
            f"temperature must be a number from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, "
            f"not {temperature!r:.50}"
        )
    return value


def checked_local_weight(weight: float) -> float:
    """The weight of the local part as a float.

    Raises:
        InvalidDefinition: it is no number in [0, 1e6].
    """
    try:
        value = float(weight)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0 <= value <= MAX_LOCAL_WEIGHT:
        raise InvalidDefinition(
            f"local_weight must be a number from 0 to {MAX_LOCAL_WEIGHT:g}, not {weight!r:.50}"
        )
    return value + 0.0  # -0.0 becomes 0.0, so that both have one definition hash


def finite_scores(scores: ArrayLike, what: str) -> Floats:
    """Scores that come from outside as a vector (n,) of finite float64 numbers.

    Raises:
        InvalidInput: they are anything else; the message starts with `what`.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{what} must be a list of numbers") from error
    if array.ndim != 1:
        raise InvalidInput(f"{what} must be a list of numbers, one an image, not of shape {array.shape}")
    if not (np.abs(array) <= _LARGEST_SCORE).all():
        raise InvalidInput(f"{what} must be finite numbers, at most {_LARGEST_SCORE:g} in size")
    return array


def _below_best(similarities: ArrayLike, temperature: float) -> Floats:
    """(s - max s) / T, (n, k), at most 0: the shift leaves a softmax as it is and keeps exp in range."""
    given, t = np.asarray(similarities), checked_temperature(temperature)
    s = given.astype(np.float64)  # a copy, changed in place: new memory costs more than the arithmetic
    s -= given.max(axis=1, keepdims=True)
    if t != 1:
        s /= t
    return s


def _weights(similarities: ArrayLike, temperature: float) -> Floats:
    """exp((s - max s) / T), (n, k), in (0, 1]."""
    below = _below_best(similarities, temperature)
    return np.exp(below, out=below)


def _log_sum_exp(below: Floats) -> Floats:
    return np.asarray(np.log(np.exp(below).sum(axis=1)))
