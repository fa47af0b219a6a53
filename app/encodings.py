"""What the encoder makes of a definition: concept embeddings, and the negatives of `neglabel`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread
from cachetools import LRUCache

from app.engine import Engine, Timings
from app.engine.errors import DeadlineExceeded
from app.vocabularies import Vocabularies
from mcm.definition import Definition
from mcm.detector import Detector
from mcm.detector_file import check_matrix
from mcm.embeddings import Vectors
from mcm.encoders import Encoder
from mcm.mining import Chunk, Mined, Miner, MiningReport, keep_rows, known_rows
from mcm.negatives import Negatives
from mcm.negatives_check import NegativesCheck
from mcm.prompts import check_encoder, distinct_prompts, pool_prompts

REMEMBERED = 64  # reports of mining


@dataclass(frozen=True, eq=False)
class Encoding:
    """Concept embeddings (k, d) and, where the score has them, negatives."""

    matrix: Vectors
    negatives: Negatives | None = None


class Encodings:
    """Makes encodings with the engine, each within `create_timeout` seconds."""

    def __init__(
        self, engine: Engine, encoder: Encoder, vocabularies: Vocabularies, create_timeout: float
    ) -> None:
        self.encoder = encoder
        self.vocabularies = vocabularies
        self._engine = engine
        self._create_timeout = create_timeout
        self._reports: LRUCache[Definition, MiningReport] = LRUCache(REMEMBERED)
        self._words = asyncio.Lock()  # who comes second finds the words of the first in the cache

    def report(self, definition: Definition) -> MiningReport | None:
        """How the negatives of a definition were found, if that was lately."""
        return self._reports.get(definition)

    async def make(self, definition: Definition, timings: Timings | None = None) -> Encoding:
        """The encoding of a definition. The time that the engine takes is added to `timings`.

        Raises:
            NoPatches: the score needs patches, and the encoder gives none.
            InvalidDefinition: the score cannot tell the concepts apart; or no negative is kept.
            DeadlineExceeded: it took too long.
        """
        check_encoder(definition, self.encoder)
        try:
            async with asyncio.timeout(self._create_timeout):
                matrix = await self._concepts(definition, timings)
                if definition.negatives is None:
                    return Encoding(matrix)
                mined = await self._mine(definition, matrix, timings)
        except TimeoutError:
            raise _too_slow(definition) from None
        self._reports[definition] = mined.report
        return Encoding(matrix, mined.negatives)

    async def check(self, given: Detector) -> Encoding:
        """The encoding of a detector from a file, made again so that the file cannot lie.

        The negatives are the file's own: the last digits, and with them the rank of some words, may differ
        from machine to machine, and its calibration was made with these.

        Raises:
            InvalidDetectorFile: the embeddings are not what this encoder makes, or the negatives not those
                that the definition gives.
            InvalidDefinition, DeadlineExceeded: as `make`.
        """
        check_encoder(given.definition, self.encoder)
        try:
            async with asyncio.timeout(self._create_timeout):
                matrix = await self._concepts(given.definition, None)
                check_matrix(given, matrix)
                if given.negatives is not None:
                    await self._check_negatives(given, given.negatives, matrix)
        except TimeoutError:
            raise _too_slow(given.definition) from None
        return Encoding(matrix, given.negatives)

    async def _concepts(self, definition: Definition, timings: Timings | None) -> Vectors:
        prompts = distinct_prompts(definition)
        embeddings = await self._engine.embed_texts(prompts, timings=timings)
        return await anyio.to_thread.run_sync(pool_prompts, definition, prompts, embeddings)

    async def _mine(self, definition: Definition, matrix: Vectors, timings: Timings | None) -> Mined:
        miner = await anyio.to_thread.run_sync(self._miner, definition, matrix)
        await self._feed(miner, miner.add, timings)
        return await anyio.to_thread.run_sync(miner.result)

    async def _check_negatives(self, given: Detector, negatives: Negatives, matrix: Vectors) -> None:
        miner = await anyio.to_thread.run_sync(self._miner, given.definition, matrix)
        checking = NegativesCheck(negatives, miner)
        await self._feed(miner, checking.add, None)
        await anyio.to_thread.run_sync(checking.check)

    def _miner(self, definition: Definition, matrix: Vectors) -> Miner:
        assert definition.negatives is not None
        vocabulary = self.vocabularies.of(definition.negatives)
        return Miner(vocabulary, definition.negatives, definition.names, matrix)

    async def _feed(
        self, miner: Miner, take: Callable[[Chunk, Vectors], None], timings: Timings | None
    ) -> None:
        """Give all words' embeddings to `take`; what this encoder never encoded is encoded and kept."""
        fingerprint = self.encoder.fingerprint
        for chunk in miner.chunks:
            async with self._words:
                rows = await anyio.to_thread.run_sync(known_rows, chunk, fingerprint, self.encoder.dim)
                if rows is None:
                    rows = await self._engine.embed_texts(chunk.prompts, timings=timings)
                    await anyio.to_thread.run_sync(keep_rows, chunk, fingerprint, rows)
            await anyio.to_thread.run_sync(take, chunk, rows)


def _too_slow(definition: Definition) -> DeadlineExceeded:
    if definition.negatives is not None:
        return DeadlineExceeded(
            f"the words of the vocabulary {definition.negatives.vocabulary!r} were not all encoded in time; "
            "try again, and it goes on from there"
        )
    return DeadlineExceeded(
        f"{len(distinct_prompts(definition))} prompts were not encoded in time; use fewer"
    )
