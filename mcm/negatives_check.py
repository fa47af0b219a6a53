"""Whether negatives from outside are those that their definition gives, so that no detector file can lie."""

import numpy as np

from mcm.embeddings import Vectors
from mcm.errors import InvalidDetectorFile
from mcm.mining import Chunk, Miner
from mcm.negatives import Negatives

TOLERANCE = 1e-4  # of embeddings and of quantiles: other machines round differently


class NegativesCheck:
    """Holds `claimed` negatives against those that `miner` finds.

    The last digits of embeddings differ between machines, and with them the rank of words that are equally
    far from the concepts: in each place, a word that is as far counts as the same. Every chunk of the
    miner is to be given to `add` once, in their order; then `check`.
    """

    def __init__(self, claimed: Negatives, miner: Miner) -> None:
        self._claimed, self._miner, self._vocabulary = claimed, miner, miner.vocabulary
        self._words = set(claimed.words)
        self._rows: dict[int, Vectors] = {}

    def add(self, chunk: Chunk, rows: Vectors) -> None:
        """Take the embeddings (n, d), unit rows, of a chunk's prompts."""
        self._miner.add(chunk, rows)
        for place, row in enumerate(rows, start=chunk.start):
            if self._vocabulary.words[place] in self._words:
                self._rows[place] = row

    def check(self) -> None:
        """Compare.

        Raises:
            InvalidDetectorFile: the claimed ones are others, or have other embeddings.
        """
        mined = self._miner.result()
        found, claimed = mined.negatives, self._claimed
        if (len(claimed.words), claimed.groups) != (len(found.words), found.groups):
            raise InvalidDetectorFile(
                f"the detector file has {len(claimed.words)} negatives in {claimed.groups} groups; its "
                f"definition gives {len(found.words)} in {found.groups}"
            )
        places = self._places([place < len(self._vocabulary.nouns) for place in mined.places])
        quantiles = self._miner.quantiles
        for word, place, expected in zip(claimed.words, places, mined.places, strict=True):
            if place is None or not abs(quantiles[place] - quantiles[expected]) <= TOLERANCE:
                raise InvalidDetectorFile(
                    f"the detector file's negative {word!r:.50} is not one that its definition gives there; "
                    "create the detector again"
                )
        self._check_rows([place for place in places if place is not None])

    def _places(self, nouns: list[bool]) -> list[int | None]:
        """Where the claimed words are in the vocabulary, each of the part of speech that is due there."""
        split = len(self._vocabulary.nouns)
        known = {(self._vocabulary.words[place], place < split): place for place in self._rows}
        return [known.get(key) for key in zip(self._claimed.words, nouns, strict=True)]

    def _check_rows(self, places: list[int]) -> None:
        if len(set(places)) < len(places):
            raise InvalidDetectorFile("the detector file names a negative twice")
        fresh = np.stack([self._rows[place] for place in places])
        difference = np.abs(self._claimed.matrix - fresh).max(axis=1)
        worst = int(difference.argmax())
        if not difference[worst] <= TOLERANCE:
            raise InvalidDetectorFile(
                f"the detector file's embedding of the negative {self._claimed.words[worst]!r} differs by "
                f"{difference[worst]:.2g} from what its encoder makes of it; create the detector again"
            )
