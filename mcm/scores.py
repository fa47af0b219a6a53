"""Scores: pure functions of a similarity matrix. Higher means more in-distribution, always.

`similarities` is (n, k): the cosines of n images to k concepts, in [-1, 1]. Arithmetic is float64:
with 1000 concepts and T = 1 all MCM scores lie within 0.0002, and rounding destroys the ranking.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcm.errors import InvalidDefinition

Floats = NDArray[np.float64]
ScoreFunction = Callable[[ArrayLike, float], Floats]


def probabilities(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Softmax of the similarities over the concepts, p = softmax(s / T): (n, k), rows sum to 1."""
    logits = np.asarray(similarities, dtype=np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def mcm(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Maximum concept matching, max p: (n,), in [1/k, 1]. Ming et al., NeurIPS 2022, eq. 1."""
    return np.asarray(probabilities(similarities, temperature).max(axis=1))


def max_logit(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Largest similarity, max s: (n,), in [-1, 1]; the temperature plays no part.

    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022.
    """
    return np.asarray(np.max(np.asarray(similarities, dtype=np.float64), axis=1))


def energy(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative free energy, T * logsumexp(s / T): (n,). Liu et al., NeurIPS 2020, eq. 4."""
    logits = np.asarray(similarities, dtype=np.float64) / temperature
    top = logits.max(axis=1)
    return np.asarray(temperature * (top + np.log(np.exp(logits - top[:, None]).sum(axis=1))))


def entropy(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative entropy of p, sum p ln p: (n,), in [-ln k, 0]."""
    logits = np.asarray(similarities, dtype=np.float64) / temperature
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray((np.exp(log_p) * log_p).sum(axis=1))


def variance(similarities: ArrayLike, temperature: float = 1.0) -> Floats:
    """Population variance of p over the concepts: (n,), in [0, (k - 1) / k^2]."""
    return np.asarray(probabilities(similarities, temperature).var(axis=1))


@dataclass(frozen=True)
class Score:
    """A named score. `contrasts`: it compares the concepts and is constant when they do not differ."""

    name: str
    function: ScoreFunction
    contrasts: bool


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("mcm", mcm, contrasts=True),
        Score("max-logit", max_logit, contrasts=False),
        Score("energy", energy, contrasts=False),
        Score("entropy", entropy, contrasts=True),
        Score("variance", variance, contrasts=True),
    )
}


def get_score(name: str) -> Score:
    """The score called `name`.

    Raises:
        InvalidDefinition: there is no such score.
    """
    try:
        return SCORES[name]
    except KeyError:
        raise InvalidDefinition(f"there is no score {name!r}; choose one of {', '.join(SCORES)}") from None
