"""The client that waits."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

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
from mcm.client._sessions import Session
from mcm.client.errors import ConnectionFailed, Unavailable


class Client:
    """A service, spoken to in Python. Safe to share between threads; close it, or use it in a `with`.

    `timeout`: seconds to connect, and to wait for more of an answer; work that encodes prompts may take
    900 s. `max_retries`: how often a request is repeated after 429, 502, 503, 504 or a lost connection.
    `require_verdict`: an answer without a threshold is an error (Conflict, code "not-calibrated") and not a
    verdict of None, which is falsy; use it for gating. `max_in_flight`: requests at once in work on many
    images. `transport`: in place of the network.

    Images are paths, bytes, binary files, PIL images, or tuples (name, one of these), in any iterable. It
    is walked as requests have room, some `max_in_flight` * 32 images ahead of the results. Results come
    in the order of the images, `index` counts through all of them, and `name` is the image's own. An image
    that cannot be read, here or there, has its `error` in its place; it never raises.

    All methods raise ClientError (see mcm.client.errors); InvalidArgument before anything is sent.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        require_at_least("max_retries", max_retries, 0)
        require_at_least("max_in_flight", max_in_flight, 1)
        http = httpx.Client(transport=transport, **connection(base_url, api_key, timeout))
        self._session = Session(http, max_retries, max_in_flight)
        self._require_verdict = require_verdict

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.http.close()

    # ---- the encoder and its detectors

    def ready(self) -> bool:
        """Whether the service takes work; asked once, without retries."""
        try:
            self._session.send_once(requests.ready())
        except (ConnectionFailed, Unavailable):
            return False
        return True

    def models(self) -> list[wire.Model]:
        """The encoders that run."""
        return self._session.send(requests.models())

    def check_concepts(
        self, concepts: Concepts, *, templates: Sequence[str] | None = None
    ) -> wire.ConceptsChecked:
        """Duplicates, near-synonyms and cut prompts among concepts; writes nothing."""
        return self._session.send(requests.check_concepts(concepts, templates))

    def create_detector(
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
        """Make a detector. Concepts are names, or a mapping from names to their own prompts.

        Raises:
            Conflict: the name is taken.
        """
        return self._session.send(
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

    def put_detector(
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
        """Make a detector or replace its definition; the same definition changes nothing.

        Raises:
            PreconditionFailed: its revision is not `if_match`.
        """
        return self._session.send(
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

    def detectors(self) -> Iterator[wire.DetectorSummary]:
        """All detectors, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self._session.send(requests.detectors(cursor))
            yield from page.detectors
            cursor = page.next_cursor
            if cursor is None:
                return

    def detector(self, name: str) -> wire.Detector:
        """One detector: its definition, revision and certificate."""
        return self._session.send(requests.detector(name))

    def delete_detector(self, name: str, *, if_match: int | None = None) -> None:
        """Delete a detector. When a repeated request finds none, an earlier one has deleted it."""
        self._session.send(requests.delete_detector(name, if_match))

    def export_detector(self, name: str) -> wire.DetectorFile:
        """A detector as a file that can be kept, moved and judged with."""
        return self._session.send(requests.export_detector(name))

    def import_detector(self, name: str, file: wire.DetectorFile) -> wire.Detector:
        """Make or replace a detector from such a file; its certificate comes with it."""
        return self._session.send(requests.import_detector(name, file))

    # ---- scores

    def score(
        self,
        name: str,
        images: Iterable[NamedImage],
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> Iterator[wire.Result]:
        """Judge images with a detector; `explain` asks for maps of where the best concepts match."""
        batch = work.score(name, top_k, self._verdict(require_verdict), explain)
        return _results(self._pieces(batch, images))

    def score_answers(
        self,
        name: str,
        images: Iterable[NamedImage],
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> Iterator[wire.ScoreAnswer]:
        """As `score`, request by request, with the definition hash, revision, threshold and warnings."""
        batch = work.score(name, top_k, self._verdict(require_verdict), explain)
        return self._answers(name, self._pieces(batch, images))

    def score_once(
        self,
        images: Iterable[NamedImage],
        *,
        concepts: Concepts,
        templates: Sequence[str] | None = None,
        score: wire.ScoreName | None = None,
        temperature: float | None = None,
        local_weight: float | None = None,
        negatives: wire.Negatives | None = None,
        top_k: int = 3,
        explain: bool = False,
    ) -> Iterator[wire.Result]:
        """Score images against concepts, without a detector and so without a verdict."""
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
        images: Iterable[NamedImage],
        *,
        top_k: int = 3,
        explain: bool = False,
        require_verdict: bool | None = None,
    ) -> Iterator[list[wire.Result]]:
        """Judge images with up to 64 detectors, encoding them once: per image a result of each detector."""
        batch = work.score_with(detectors, top_k, self._verdict(require_verdict), explain)
        return (row for piece in self._pieces(batch, images) for row in piece.rows)

    def score_embeddings(
        self,
        name: str,
        embeddings: Iterable[Sequence[float]],
        fingerprint: str,
        *,
        top_k: int = 3,
        require_verdict: bool | None = None,
    ) -> Iterator[wire.Result]:
        """Judge embeddings (rows of numbers, of numpy or not) made by the encoder with this fingerprint."""
        batch = work.score_embeddings(name, fingerprint, top_k, self._verdict(require_verdict))
        return _results(self._session.pieces(batch, work.embedding_items(embeddings)))

    def discover(
        self,
        name: str,
        images: Iterable[NamedImage],
        *,
        q: float,
        method: wire.FdrMethod = "benjamini-hochberg",
        top_k: int = 3,
    ) -> wire.ScoreAnswer:
        """Judge all images together: of those whose `discovery` is True, on average at most `q` are ID.

        It needs all p-values at once, so the whole answer comes at the end, with `fdr` and with a warning
        where few discoveries are impossible.

        Raises:
            Uncalibrated: the detector has no calibration scores.
            DefinitionChanged: the detector changed in the middle.
        """
        gathering = Gathering(self.detector(name), self.calibration(name), q, method)
        batch = work.score(name, top_k, require_verdict=False)
        with closing(self._pieces(batch, images)) as pieces:
            for piece in pieces:
                gathering.add(piece)
        return gathering.answer()

    def embed(self, images: Iterable[NamedImage]) -> Iterator[wire.EmbedResult]:
        """Embed images: unit vectors."""
        return _results(self._pieces(work.embed(), images))

    def embed_texts(self, texts: Iterable[str]) -> list[wire.EmbedResult]:
        """Embed texts as they are, without templates: unit vectors."""
        pieces = self._session.pieces(work.embed_texts(), work.text_items(texts))
        return list(_results(pieces))

    # ---- thresholds

    def calibrate(
        self,
        name: str,
        images: Iterable[NamedImage] | None = None,
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
        """Set a threshold from in-distribution images, any number of them, or from scores of such images.

        Scores go with the `definition_hash` that made them and, `per_concept`, with the most similar concept
        of each. `method`: split-conformal (default), pac, with `confidence` (0.95), or paper; the
        `false_alarm_rate` is 0.05 by default. `append` adds to the calibration in force, whose options stay
        where none are given. Images that cannot be used are in `errors`, those to look at in `lowest`,
        copies among them in `warnings`.

        Raises:
            ApiError: all images are bad (the first one's error), or the service refused.
            DefinitionChanged: the detector was replaced in the middle.
        """
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
            return self._session.send(requests.calibrate(name, options))
        tally = Tally()
        batch = work.score(name, top_k=0, require_verdict=False)
        with closing(self._pieces(batch, images, tally.see)) as pieces:
            for piece in pieces:
                tally.add(piece)
        return tally.completed(self._session.send(requests.calibrate(name, tally.request(options))))

    def calibration(self, name: str) -> wire.Calibration:
        """The calibration scores and the certificate in force."""
        return self._session.send(requests.calibration(name))

    def drift(self, name: str) -> wire.Drift:
        """Whether the images scored since the calibration still look like the calibration images.

        Raises:
            Conflict: the service does not watch drift, or the detector has no calibration scores.
        """
        return self._session.send(requests.drift(name))

    def delete_calibration(self, name: str) -> None:
        """Remove the calibration scores and the threshold."""
        self._session.send(requests.delete_calibration(name))

    def set_threshold(
        self, name: str, threshold: float, *, if_match: int | None = None
    ) -> wire.CertificateAnswer:
        """Set a threshold by hand: scores below it are out-of-distribution."""
        return self._session.send(requests.set_threshold(name, threshold, if_match))

    def delete_threshold(self, name: str) -> None:
        """Remove the threshold; the calibration scores stay."""
        self._session.send(requests.delete_threshold(name))

    def _verdict(self, required: bool | None) -> bool:
        return self._require_verdict if required is None else required

    def _pieces(
        self, batch: Batch[A, R], images: Iterable[NamedImage], see: Callable[[Item], Item] | None = None
    ) -> Generator[Piece[A, R], None, None]:
        require_many(images)
        items = map(load, images)
        return self._session.pieces(batch, items if see is None else map(see, items))

    def _answers(self, name: str, pieces: Iterator[work.ScorePiece]) -> Iterator[wire.ScoreAnswer]:
        for piece in pieces:
            answer = piece.answer or work.answer_without_results(self.detector(name))
            yield answer.model_copy(update={"results": work.first_column(piece)})


def _results(pieces: Iterator[Piece[A, R]]) -> Iterator[R]:
    return (row[0] for piece in pieces for row in piece.rows)
