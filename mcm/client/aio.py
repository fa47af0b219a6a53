"""The same client for asyncio: its methods and arguments are those of `Client`, described there."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeAlias

import httpx

from mcm import wire
from mcm.client import _requests as requests
from mcm.client import _work as work
from mcm.client._batches import Batch, Piece, R
from mcm.client._calibration import Tally, calibration_options
from mcm.client._calls import A, Concepts
from mcm.client._connection import connection, require_at_least
from mcm.client._discovery import Gathering
from mcm.client._images import Item, NamedImage, load, require_many
from mcm.client._sessions import AsyncSession
from mcm.client.errors import ConnectionFailed, Unavailable

Images: TypeAlias = Iterable[NamedImage] | AsyncIterable[NamedImage]


class AsyncClient:
    """A service, spoken to in Python with asyncio; see `Client` for arguments, images and errors.

    Iterables may also be asynchronous; files are read in threads. To leave a loop over results early and
    have its requests cancelled at once, put `contextlib.aclosing` around the iterator.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        require_verdict: bool = False,
        max_in_flight: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        require_at_least("max_retries", max_retries, 0)
        require_at_least("max_in_flight", max_in_flight, 1)
        http = httpx.AsyncClient(transport=transport, **connection(base_url, api_key, timeout))
        self._session = AsyncSession(http, max_retries, max_in_flight)
        self._require_verdict = require_verdict

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As `Client.close`."""
        await self._session.http.aclose()

    # ---- the encoder and its detectors

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            await self._session.send_once(requests.ready())
        except (ConnectionFailed, Unavailable):
            return False
        return True

    async def models(self) -> list[wire.Model]:
        """As `Client.models`."""
        return await self._session.send(requests.models())

    async def check_concepts(
        self, concepts: Concepts, *, templates: Sequence[str] | None = None
    ) -> wire.ConceptsChecked:
        """As `Client.check_concepts`."""
        return await self._session.send(requests.check_concepts(concepts, templates))

    async def create_detector(
        self,
        name: str,
        concepts: Concepts,
        *,
        templates: Sequence[str] | None = None,
        score: wire.ScoreName | None = None,
        temperature: float | None = None,
        local_weight: float | None = None,
        negatives: wire.Negatives | None = None,
    ) -> wire.Detector:
        """As `Client.create_detector`."""
        return await self._session.send(
            requests.create_detector(
                name,
                concepts,
                templates=templates,
                score=score,
                temperature=temperature,
                local_weight=local_weight,
                negatives=negatives,
            )
        )

    async def put_detector(
        self,
        name: str,
        concepts: Concepts,
        *,
        templates: Sequence[str] | None = None,
        score: wire.ScoreName | None = None,
        temperature: float | None = None,
        local_weight: float | None = None,
        negatives: wire.Negatives | None = None,
        if_match: int | None = None,
    ) -> wire.Detector:
        """As `Client.put_detector`."""
        return await self._session.send(
            requests.put_detector(
                name,
                concepts,
                templates=templates,
                score=score,
                temperature=temperature,
                local_weight=local_weight,
                negatives=negatives,
                if_match=if_match,
            )
        )

    async def detectors(self) -> AsyncGenerator[wire.DetectorSummary, None]:
        """As `Client.detectors`."""
        cursor: str | None = None
        while True:
            page = await self._session.send(requests.detectors(cursor))
            for summary in page.detectors:
                yield summary
            cursor = page.next_cursor
            if cursor is None:
                return

    async def detector(self, name: str) -> wire.Detector:
        """As `Client.detector`."""
        return await self._session.send(requests.detector(name))

    async def delete_detector(self, name: str, *, if_match: int | None = None) -> None:
        """As `Client.delete_detector`."""
        await self._session.send(requests.delete_detector(name, if_match))

    async def export_detector(self, name: str) -> wire.DetectorFile:
        """As `Client.export_detector`."""
        return await self._session.send(requests.export_detector(name))

    async def import_detector(self, name: str, file: wire.DetectorFile) -> wire.Detector:
        """As `Client.import_detector`."""
        return await self._session.send(requests.import_detector(name, file))

    # ---- scores

    def score(
        self,
        name: str,
        images: Images,
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> AsyncGenerator[wire.Result, None]:
        """As `Client.score`."""
        batch = work.score(name, top_k, self._verdict(require_verdict), explain)
        return _results(self._pieces(batch, images))

    def score_answers(
        self,
        name: str,
        images: Images,
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> AsyncGenerator[wire.ScoreAnswer, None]:
        """As `Client.score_answers`."""
        batch = work.score(name, top_k, self._verdict(require_verdict), explain)
        return self._answers(name, self._pieces(batch, images))

    def score_once(
        self,
        images: Images,
        *,
        concepts: Concepts,
        templates: Sequence[str] | None = None,
        score: wire.ScoreName | None = None,
        temperature: float | None = None,
        local_weight: float | None = None,
        negatives: wire.Negatives | None = None,
        top_k: int = 3,
        explain: bool = False,
    ) -> AsyncGenerator[wire.Result, None]:
        """As `Client.score_once`."""
        batch = work.score_once(
            concepts,
            templates=templates,
            score=score,
            temperature=temperature,
            local_weight=local_weight,
            negatives=negatives,
            top_k=top_k,
            explain=explain or None,
        )
        return _results(self._pieces(batch, images))

    def score_with(
        self,
        detectors: Sequence[str],
        images: Images,
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> AsyncGenerator[list[wire.Result], None]:
        """As `Client.score_with`."""
        batch = work.score_with(detectors, top_k, self._verdict(require_verdict), explain)
        return _rows(self._pieces(batch, images))

    def score_embeddings(
        self,
        name: str,
        embeddings: Iterable[Sequence[float]],
        fingerprint: str,
        *,
        top_k: int = 3,
        require_verdict: bool | None = None,
    ) -> AsyncGenerator[wire.Result, None]:
        """As `Client.score_embeddings`."""
        batch = work.score_embeddings(name, fingerprint, top_k, self._verdict(require_verdict))
        items = _in_turns(work.embedding_items(embeddings))
        return _results(self._session.pieces(batch, items))

    def embed(self, images: Images) -> AsyncGenerator[wire.EmbedResult, None]:
        """As `Client.embed`."""
        return _results(self._pieces(work.embed(), images))

    async def discover(
        self,
        name: str,
        images: Images,
        *,
        q: float,
        method: wire.FdrMethod = "benjamini-hochberg",
        top_k: int = 3,
    ) -> wire.ScoreAnswer:
        """As `Client.discover`."""
        gathering = Gathering(await self.detector(name), await self.calibration(name), q, method)
        batch = work.score(name, top_k, require_verdict=False)
        async with aclosing(self._pieces(batch, images)) as pieces:
            async for piece in pieces:
                gathering.add(piece)
        return gathering.answer()

    async def embed_texts(self, texts: Iterable[str]) -> list[wire.EmbedResult]:
        """As `Client.embed_texts`."""
        pieces = self._session.pieces(work.embed_texts(), _in_turns(work.text_items(texts)))
        return [result async for result in _results(pieces)]

    # ---- thresholds

    async def calibrate(
        self,
        name: str,
        images: Images | None = None,
        *,
        scores: Sequence[float] | None = None,
        definition_hash: str | None = None,
        concepts: Sequence[str] | None = None,
        method: wire.Method | None = None,
        false_alarm_rate: float | None = None,
        confidence: float | None = None,
        per_concept: bool | None = None,
        append: bool | None = None,
    ) -> wire.CertificateAnswer:
        """As `Client.calibrate`."""
        options = calibration_options(
            images,
            scores,
            definition_hash,
            concepts=concepts,
            method=method,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            per_concept=per_concept,
            append=append,
        )
        if images is None:
            return await self._session.send(requests.calibrate(name, options))
        tally = Tally()
        batch = work.score(name, top_k=0, require_verdict=False)
        async with aclosing(self._pieces(batch, images, tally.see)) as pieces:
            async for piece in pieces:
                tally.add(piece)
        return tally.completed(await self._session.send(requests.calibrate(name, tally.request(options))))

    async def calibration(self, name: str) -> wire.Calibration:
        """As `Client.calibration`."""
        return await self._session.send(requests.calibration(name))

    async def drift(self, name: str) -> wire.Drift:
        """As `Client.drift`."""
        return await self._session.send(requests.drift(name))

    async def delete_calibration(self, name: str) -> None:
        """As `Client.delete_calibration`."""
        await self._session.send(requests.delete_calibration(name))

    async def set_threshold(
        self, name: str, threshold: float, *, if_match: int | None = None
    ) -> wire.CertificateAnswer:
        """As `Client.set_threshold`."""
        return await self._session.send(requests.set_threshold(name, threshold, if_match))

    async def delete_threshold(self, name: str) -> None:
        """As `Client.delete_threshold`."""
        await self._session.send(requests.delete_threshold(name))

    def _verdict(self, required: bool | None) -> bool:
        return self._require_verdict if required is None else required

    def _pieces(
        self, batch: Batch[A, R], images: Images, see: Callable[[Item], Item] | None = None
    ) -> AsyncGenerator[Piece[A, R], None]:
        require_many(images, (Iterable, AsyncIterable))
        items = _loaded(images)
        return self._session.pieces(batch, items if see is None else _seen(items, see))

    async def _answers(
        self, name: str, pieces: AsyncGenerator[work.ScorePiece, None]
    ) -> AsyncGenerator[wire.ScoreAnswer, None]:
        async with aclosing(pieces):
            async for piece in pieces:
                answer = piece.answer or work.answer_without_results(await self.detector(name))
                yield answer.model_copy(update={"results": work.first_column(piece)})


async def _loaded(images: Images) -> AsyncGenerator[Item, None]:
    """The images read one by one, in threads, as they are asked for."""
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield await asyncio.to_thread(load, image)
    else:
        for image in images:
            yield await asyncio.to_thread(load, image)


async def _seen(items: AsyncGenerator[Item, None], see: Callable[[Item], Item]) -> AsyncGenerator[Item, None]:
    async with aclosing(items):
        async for item in items:
            yield see(item)


async def _in_turns(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """The items, with a turn for the other tasks after each."""
    for item in items:
        await asyncio.sleep(0)
        yield item


async def _rows(pieces: AsyncGenerator[Piece[A, R], None]) -> AsyncGenerator[list[R], None]:
    async with aclosing(pieces):
        async for piece in pieces:
            for row in piece.rows:
                yield row


async def _results(pieces: AsyncGenerator[Piece[A, R], None]) -> AsyncGenerator[R, None]:
    async with aclosing(_rows(pieces)) as rows:
        async for row in rows:
            yield row[0]
