"""The negative words of `neglabel`: what decides them, and what a detector keeps of them."""

from dataclasses import dataclass

from mcm.embeddings import Vectors
from mcm.errors import InvalidDefinition

DEFAULT_GROUPS = 100
MAX_GROUPS = 10_000
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class NegativesChoice:
    """What decides the negative words, besides the concepts and the encoder.

    `vocabulary`: its name, for people; `vocabulary_hash`: the hash of its words. `groups`: at most this many,
    in [1, 10,000]; `seed` of the permutation, in [0, 2^32). `drop_near`: words with a cosine over 0.95 to a
    concept are dropped after the selection, as in CSP.

    Raises:
        InvalidDefinition: says which part is wrong.
    """

    vocabulary: str
    vocabulary_hash: str
    groups: int = DEFAULT_GROUPS
    seed: int = 0
    drop_near: bool = False

    def __post_init__(self) -> None:
        for name in ("vocabulary", "vocabulary_hash"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise InvalidDefinition(f"{name} of the negatives must be a text that is not empty")
        _check_whole("groups", self.groups, 1, MAX_GROUPS)
        _check_whole("seed", self.seed, 0, MAX_SEED)
        if not isinstance(self.drop_near, bool):
            raise InvalidDefinition("drop_near of the negatives must be true or false")


@dataclass(frozen=True, eq=False)
class Negatives:
    """Negative words (m,) and their embeddings (m, d), unit rows, group by group.

    `groups` equally large groups, so it divides m.

    Raises:
        InvalidDefinition: the numbers do not fit together.
    """

    words: tuple[str, ...]
    matrix: Vectors
    groups: int

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.matrix) or self.groups < 1:
            raise InvalidDefinition(
                f"{len(self.words)} negative words with {len(self.matrix)} embeddings in {self.groups} groups"
            )
        if len(self.words) % self.groups:
            raise InvalidDefinition(
                f"{len(self.words)} negative words do not fill {self.groups} groups evenly"
            )


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidDefinition(
            f"{name} of the negatives must be a whole number from {least} to {most}, not {value!r:.50}"
        )
