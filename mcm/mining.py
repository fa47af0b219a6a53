"""Mining: the words of a vocabulary -> embeddings, once per encoder -> the negatives of some concepts."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcm.embeddings import Vectors, cosines
from mcm.encoders import disk_cache
from mcm.encoders.protocol import Encoder
from mcm.errors import InvalidDefinition
from mcm.names import folded_name
from mcm.negatives import Negatives, NegativesChoice
from mcm.scores import Floats
from mcm.vocabularies import Vocabulary

KEPT_SHARE = 0.15
QUANTILE = 0.95
NEAR_COSINE = 0.95  # of CSP: Chen et al., "Conjugated Semantic Pool Improves OOD Detection", NeurIPS 2024
CHUNK = 1024  # words that are encoded together: what a stop loses, and what the cache keeps as one file
CLOSEST = 10
_BLOCK = 2**22  # cosines in memory at once
_KIND = "words"

Places = NDArray[np.intp]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Neighbour:
    """A word, the concept that is nearest to it, and their cosine in [-1, 1]."""

    word: str
    concept: str
    cosine: float


@dataclass(frozen=True)
class MiningReport:
    """What was done to find the negatives, for a person to look at.

    `candidates`: words that could become negatives, after `duplicates` (the words that are concepts too, but
    for case, space and Unicode form) and `repeated` (how often a word came again in the vocabulary's source)
    were dropped. `near`: words dropped by `drop_near`. `left_over`: how many words did not fill the groups.
    `closest`: of the negatives, those nearest to a concept, nearest first, at most ten.
    """

    vocabulary: str
    candidates: int
    repeated: int
    duplicates: tuple[str, ...]
    near: tuple[Neighbour, ...]
    left_over: int
    negatives: int
    groups: int
    closest: tuple[Neighbour, ...]


@dataclass(frozen=True, eq=False)
class Mined:
    """Negatives, how they were found, and their places (m,) in `Vocabulary.words`."""

    negatives: Negatives
    report: MiningReport
    places: Places


@dataclass(frozen=True)
class Chunk:
    """Words to be encoded together, of one part of speech: from `start` on in `Vocabulary.words`."""

    start: int
    prompts: tuple[str, ...]
    noun: bool


class Miner:
    """Finds the negatives of concepts in a vocabulary, a chunk of words at a time.

    `names` (k,) and `matrix` (k, d), unit rows, are the concepts. Every chunk of `chunks` is to be given to
    `add` once, in their order, with the embeddings of its prompts; then `result` has the negatives. Memory:
    the words that may still be kept, and one chunk. `quantiles` (n,) are those of all words so far; NaN where
    a word is no candidate.
    """

    def __init__(
        self, vocabulary: Vocabulary, choice: NegativesChoice, names: Sequence[str], matrix: Vectors
    ) -> None:
        if choice.vocabulary_hash != vocabulary.hash:
            raise InvalidDefinition(
                f"the words of the vocabulary {vocabulary.name!r} are not those of the definition's negatives"
            )
        self.chunks = _chunks(vocabulary)
        self.vocabulary, self._choice = vocabulary, choice
        self._names, self._matrix = names, matrix
        taken = {folded_name(name) for name in names}
        self.quantiles: Floats = np.full(len(vocabulary.words), np.nan)
        self._candidate = np.array([folded_name(word) not in taken for word in vocabulary.words])
        nouns = int(self._candidate[: len(vocabulary.nouns)].sum())
        counts = {True: nouns, False: int(self._candidate.sum()) - nouns}
        self._lowest = {noun: _Lowest(int(KEPT_SHARE * n), matrix.shape[1]) for noun, n in counts.items()}
        if not any(lowest.count for lowest in self._lowest.values()):
            raise InvalidDefinition(
                f"no negative is kept: of the {sum(counts.values())} words of {vocabulary.name!r} that are "
                f"no concepts, {KEPT_SHARE:.0%} are less than one; give a vocabulary with more words"
            )

    def add(self, chunk: Chunk, rows: Vectors) -> None:
        """Take the embeddings (n, d), unit rows, of a chunk's prompts."""
        mine = self._candidate[chunk.start : chunk.start + len(rows)]
        rows, places = rows[mine], chunk.start + np.flatnonzero(mine)
        self.quantiles[places] = id_quantiles(rows, self._matrix)
        self._lowest[chunk.noun].add(places, self.quantiles[places], rows)

    def result(self) -> Mined:
        """The negatives, nouns and adjectives mixed by the seeded permutation, and how they were found.

        Raises:
            InvalidDefinition: `drop_near` left none.
        """
        parts = [self._lowest[noun] for noun in (True, False)]
        rows = np.concatenate([part.rows for part in parts])
        places = np.concatenate([part.places for part in parts])
        neighbours = self._neighbours(places, rows)
        near = [self._choice.drop_near and n.cosine > NEAR_COSINE for n in neighbours]
        if all(near):
            raise InvalidDefinition("every negative is too near a concept: leave drop_near out")
        order, groups = grouped(np.flatnonzero(~np.array(near)), self._choice.groups, self._choice.seed)
        kept = [neighbours[i] for i in order]
        negatives = Negatives(tuple(n.word for n in kept), np.ascontiguousarray(rows[order]), groups)
        dropped = tuple(n for n, is_near in zip(neighbours, near, strict=True) if is_near)
        return Mined(negatives, self._report(kept, dropped, len(neighbours), groups), places[order])

    def _report(
        self, kept: list[Neighbour], near: tuple[Neighbour, ...], selected: int, groups: int
    ) -> MiningReport:
        closest = sorted(kept, key=lambda neighbour: -neighbour.cosine)[:CLOSEST]
        words = self.vocabulary.words
        return MiningReport(
            vocabulary=self.vocabulary.name,
            candidates=int(self._candidate.sum()),
            repeated=self.vocabulary.repeated,
            duplicates=tuple(words[i] for i in np.flatnonzero(~self._candidate)),
            near=near,
            left_over=selected - len(near) - len(kept),
            negatives=len(kept),
            groups=groups,
            closest=tuple(closest),
        )

    def _neighbours(self, places: Places, rows: Vectors) -> list[Neighbour]:
        found: list[tuple[int, float]] = []
        for block in _blocks(rows, len(self._matrix)):
            similarities = cosines(block, self._matrix)
            best = similarities.argmax(axis=1)
            found += zip(best.tolist(), similarities.max(axis=1).tolist(), strict=True)
        words = (self.vocabulary.words[i] for i in places)
        return [Neighbour(word, self._names[j], s) for word, (j, s) in zip(words, found, strict=True)]


def mine(
    vocabulary: Vocabulary,
    choice: NegativesChoice,
    names: Sequence[str],
    matrix: Vectors,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
) -> tuple[Negatives, MiningReport]:
    """The negatives of the concepts `names` (k,) with embeddings `matrix` (k, d), and how they were found.

    The vocabulary is encoded once per encoder and kept in the user's cache folder, a chunk at a time: what
    was stopped goes on. `progress` is told (words done, words in all).

    Raises:
        InvalidDefinition: no negative is kept, or the choice is of another vocabulary.
        EncoderError: the encoder failed.
    """
    miner = Miner(vocabulary, choice, names, matrix)
    for chunk in miner.chunks:
        miner.add(chunk, _encoded(chunk, encoder))
        if progress is not None:
            progress(chunk.start + len(chunk.prompts), len(vocabulary.words))
    mined = miner.result()
    return mined.negatives, mined.report


def known_rows(chunk: Chunk, fingerprint: str, dim: int) -> Vectors | None:
    """The embeddings (n, dim) of a chunk's prompts, if this encoder has computed them before."""
    return disk_cache.read(_KIND, _key(chunk, fingerprint), (len(chunk.prompts), dim))


def keep_rows(chunk: Chunk, fingerprint: str, rows: Vectors) -> None:
    """Keep the embeddings of a chunk's prompts for the next time."""
    disk_cache.write(_KIND, _key(chunk, fingerprint), rows)


def id_quantiles(rows: Vectors, concepts: Vectors) -> Floats:
    """How near each candidate (n, d) is to the concepts (k, d): the 0.95 quantile of its cosines, (n,)."""
    found = [
        np.quantile(cosines(block, concepts), QUANTILE, axis=1) for block in _blocks(rows, len(concepts))
    ]
    return np.concatenate([np.empty(0), *found])


def grouped(places: Places, groups: int, seed: int) -> tuple[Places, int]:
    """The places in the order of the groups, and how many groups there are.

    At most `groups`, and no more than there are places; the last places, which would not fill the groups
    evenly, are left out.
    """
    groups = min(groups, len(places))
    even = len(places) - len(places) % groups
    return places[np.random.default_rng(seed).permutation(even)], groups


@dataclass
class _Lowest:
    """The `count` candidates with the lowest quantiles so far, ascending; of equal ones the first."""

    count: int
    dim: int
    places: Places = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    quantiles: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self.rows: Vectors = np.empty((0, self.dim), dtype=np.float32)

    def add(self, places: Places, quantiles: Floats, rows: Vectors) -> None:
        quantiles = np.concatenate([self.quantiles, quantiles])
        best = np.argsort(quantiles, kind="stable")[: self.count]
        self.quantiles = quantiles[best]
        self.places = np.concatenate([self.places, places])[best]
        self.rows = np.concatenate([self.rows, rows])[best]


def _chunks(vocabulary: Vocabulary) -> tuple[Chunk, ...]:
    prompts, nouns = vocabulary.prompts, len(vocabulary.nouns)
    starts = [*range(0, nouns, CHUNK), *range(nouns, len(prompts), CHUNK)]
    ends = [*starts[1:], len(prompts)]
    return tuple(
        Chunk(start, prompts[start:end], noun=start < nouns) for start, end in zip(starts, ends, strict=True)
    )


def _blocks(rows: Vectors, columns: int) -> Iterator[Vectors]:
    step = max(1, _BLOCK // columns)
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _encoded(chunk: Chunk, encoder: Encoder) -> Vectors:
    key = _key(chunk, encoder.fingerprint)
    shape = (len(chunk.prompts), encoder.dim)
    return disk_cache.cached(_KIND, key, shape, lambda: encoder.encode_texts(chunk.prompts))


def _key(chunk: Chunk, fingerprint: str) -> str:
    texts = "\n".join([fingerprint, *chunk.prompts])
    return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()
