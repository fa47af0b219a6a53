"""What a user should know of a definition before trusting it: duplicates, near-synonyms, cut prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mcm.definition import Definition, duplicate_concepts
from mcm.embeddings import Vectors
from mcm.prompts import prompts_of

NEAR_SYNONYM_COSINE = 0.9
MAX_SYNONYMS = 100
_SHOWN = 5


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
    """(concept, prompt) of each prompt that is longer than the encoder reads."""
    pairs = [(c.name, p) for c in definition.concepts for p in prompts_of(c, definition.templates)]
    flags = truncated([prompt for _, prompt in pairs])
    return [pair for pair, cut in zip(pairs, flags, strict=True) if cut]


def near_synonyms(definition: Definition, matrix: Vectors) -> list[Synonyms]:
    """Pairs of differently named concepts with cosine >= NEAR_SYNONYM_COSINE, nearest first, at most 100."""
    names = definition.names
    found: list[Synonyms] = []
    for i in range(len(names) - 1):  # row by row: 10,000 concepts squared would not fit
        cosines = matrix[i + 1 :] @ matrix[i]
        found += [
            Synonyms(names[i], names[i + 1 + j], float(cosines[j]))
            for j in np.flatnonzero(cosines >= NEAR_SYNONYM_COSINE)
            if names[i + 1 + j].casefold().split() != names[i].casefold().split()
        ]
        found = sorted(found, key=lambda pair: -pair.cosine)[:MAX_SYNONYMS]
    return found


def advise(definition: Definition, truncated: Callable[[Sequence[str]], list[bool]]) -> list[Advice]:
    """Warnings about duplicate concepts and cut prompts; an empty list when there is nothing to say."""
    advice = []
    if duplicates := duplicate_concepts(definition.names):
        groups = _some([" = ".join(map(repr, group)) for group in duplicates])
        advice.append(
            Advice(
                "duplicate-concepts",
                f"concepts that are the same but for case and space: {groups}; all are kept",
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


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
