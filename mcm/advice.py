"""What a user should know of a definition before trusting it: duplicates, near-synonyms, cut prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mcm.definition import Definition, duplicate_concepts
from mcm.embeddings import Vectors
from mcm.names import folded_name
from mcm.prompts import prompts_of

NEAR_SYNONYM_COSINE = 0.9
MAX_SYNONYMS = 100
_SHOWN = 5
_BLOCK = 2**22  # cosines in memory at once: 10,000 concepts squared would take 400 MB


@dataclass(frozen=True)
class Advice:
    """A warning: a stable `code` for programs, a `message` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Synonyms:
    """Two differently named concepts with nearly the same embedding; cosine in [-1, 1]."""

    first: str
    second: str
    cosine: float


def cut_concepts(
    definition: Definition, truncated: Callable[[Sequence[str]], list[bool]]
) -> list[tuple[str, str]]:
    """(concept, prompt) of each prompt that is longer than the encoder reads; see `Encoder.truncated`."""
    pairs = [(c.name, p) for c in definition.concepts for p in prompts_of(c, definition.templates)]
    flags = truncated([prompt for _, prompt in pairs])
    return [pair for pair, cut in zip(pairs, flags, strict=True) if cut]


def near_synonyms(definition: Definition, matrix: Vectors) -> list[Synonyms]:
    """Pairs of concepts with cosine >= NEAR_SYNONYM_COSINE, nearest first, at most MAX_SYNONYMS.

    `matrix` (k, d): unit rows, one a concept. A pair is given once, in the definition's order; names that
    `duplicate_concepts` calls the same are no pair.
    """
    names = definition.names
    _, same = np.unique([folded_name(name) for name in names], return_inverse=True)
    found: list[tuple[float, int, int]] = []
    step = max(1, _BLOCK // len(names))
    for start in range(0, len(names), step):
        cosines = matrix[start : start + step] @ matrix[start:].T
        differ = same[start : start + step, None] != same[start:]
        found = _nearest(found, np.triu(np.where(differ, cosines, 0), k=1), start)
    return [Synonyms(names[i], names[j], min(cosine, 1.0)) for cosine, i, j in found]


def advise(definition: Definition, truncated: Callable[[Sequence[str]], list[bool]]) -> list[Advice]:
    """Warnings about duplicate concepts and cut prompts; an empty list when there is nothing to say.

    `truncated` is the encoder's own.
    """
    advice = []
    if duplicates := duplicate_concepts(definition.names):
        groups = _some([" = ".join(map(repr, group)) for group in duplicates])
        advice.append(
            Advice(
                "duplicate-concepts",
                f"concepts that are the same but for case, space and Unicode form: {groups}; all are kept",
            )
        )
    if cut := cut_concepts(definition, truncated):
        names = _some(list(dict.fromkeys(repr(name) for name, _ in cut)))
        advice.append(
            Advice(
                "prompt-truncated",
                f"the encoder ignores the end of prompts that are too long: {names}; shorten them",
            )
        )
    return advice


def _nearest(
    found: list[tuple[float, int, int]], cosines: Vectors, start: int
) -> list[tuple[float, int, int]]:
    """The nearest of the pairs `found` and those in `cosines`, whose rows and columns begin at `start`."""
    close = cosines >= NEAR_SYNONYM_COSINE
    if len(found) == MAX_SYNONYMS:
        close &= cosines > found[-1][0]
    first, second = np.nonzero(close)
    values = cosines[first, second]
    best = np.argsort(-values, kind="stable")[:MAX_SYNONYMS]
    found = found + [(float(values[b]), start + int(first[b]), start + int(second[b])) for b in best]
    return sorted(found, key=lambda pair: -pair[0])[:MAX_SYNONYMS]


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
