"""Calibration scores by concept: each concept that has enough of them is judged among its own.

Vovk's Mondrian conformal prediction ("Conditional validity of inductive conformal predictors", ACML 2012),
with the most similar concept as an image's category: no labels are needed, since it is a function of the
image alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcm.errors import InvalidInput
from mcm.scores import Floats


@dataclass(frozen=True)
class Groups:
    """The most similar concept of each score's image (n,), and how many scores make a pool of their own."""

    concepts: tuple[str, ...]
    minimum: int

    def ordered(self, order: NDArray[np.intp]) -> "Groups":
        """The same in another order of the scores."""
        return Groups(tuple(self.concepts[i] for i in order.tolist()), self.minimum)


@dataclass(frozen=True, eq=False)
class Pools:
    """Which scores, ascending, an image is compared with: its concept's `own`, else the `shared` ones.

    `shares_all` says that `shared` is all scores together, for want of enough scores of the other concepts.
    """

    shared: Floats
    own: Mapping[str, Floats] = field(default_factory=dict)
    shares_all: bool = True

    def of(self, concept: str) -> Floats:
        """The scores that an image of this concept is compared with."""
        return self.own.get(concept, self.shared)


def pools_of(ascending: Floats, groups: Groups | None) -> Pools:
    """The pools of scores (n,), ascending, whose images have these concepts; one pool without groups.

    A concept with `minimum` scores has its own pool; the other concepts share the scores of all concepts
    that have at most `minimum`. That "at most", where "less than" would seem natural, makes the shared
    promise exact: with the new image counted in, both sides say "at most `minimum`", so the new score is
    exchangeable with the scores that it is compared with, whichever concepts chance has left with few.
    """
    if groups is None:
        return Pools(ascending)
    names, inverse, counts = np.unique(
        np.array(groups.concepts, dtype=object), return_inverse=True, return_counts=True
    )
    own = {
        str(names[i]): ascending[inverse == i] for i, count in enumerate(counts) if count >= groups.minimum
    }
    shared = ascending[counts[inverse] <= groups.minimum]
    if shared.size < groups.minimum:
        return Pools(ascending, own)
    return Pools(shared, own, shares_all=shared.size == ascending.size)


def checked_concepts(concepts: Sequence[str], n: int) -> tuple[str, ...]:
    """One concept's name for each of n scores.

    Raises:
        InvalidInput: they are no n texts.
    """
    if isinstance(concepts, str) or not all(isinstance(name, str) for name in concepts):
        raise InvalidInput("the concepts of calibration scores must be a list of names")
    if len(concepts) != n:
        raise InvalidInput(f"{n} calibration scores need as many concepts, not {len(concepts)}")
    return tuple(concepts)
