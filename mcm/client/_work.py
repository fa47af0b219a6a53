"""The kinds of work on many items, and what is made of their pieces. Pure; both clients use it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from mcm import wire
from mcm.client import _requests as requests
from mcm.client._batches import Batch, Limits, Piece
from mcm.client._calls import Concepts, checked, detector_path, listed
from mcm.client._images import Item
from mcm.client.errors import InvalidArgument

EMBEDDINGS = Limits(10_000, 8 * 2**20)
TEXTS = Limits(64, 2**20)

ScoreBatch: TypeAlias = Batch[wire.ScoreAnswer, wire.Result]
ScorePiece: TypeAlias = Piece[wire.ScoreAnswer, wire.Result]
EmbedBatch: TypeAlias = Batch[wire.Embedded, wire.EmbedResult]


def score(name: str, top_k: int, require_verdict: bool, explain: bool = False) -> ScoreBatch:
    """Images judged by one detector."""
    detector_path(name)  # a wrong name is refused before the first image is read
    options = requests.score_options(top_k, require_verdict, explain)
    return Batch(partial(requests.score, name, options), _score_columns, wire.Result)


def score_once(concepts: Concepts, **options: object) -> ScoreBatch:
    """Images scored against concepts, without a detector."""
    fields = checked(wire.OneShotRequest, concepts=listed(concepts), **options)
    return Batch(partial(requests.score_once, fields), _score_columns, wire.Result)


def score_with(
    detectors: Sequence[str], top_k: int, require_verdict: bool, explain: bool = False
) -> Batch[wire.ScoreAnswers, wire.Result]:
    """Images judged by several detectors, one column each."""
    if isinstance(detectors, str):
        raise InvalidArgument("detectors must be a list of names, not one string: use [name]")
    fields = checked(
        wire.OneShotRequest,
        detectors=list(detectors),
        top_k=top_k,
        require_verdict=require_verdict,
        explain=explain or None,
    )
    call = partial(requests.score_with, fields)
    return Batch(call, _columns_of_each, wire.Result, width=len(detectors))


def score_embeddings(name: str, fingerprint: str, top_k: int, require_verdict: bool) -> ScoreBatch:
    """Embeddings judged by one detector."""
    detector_path(name)
    options = requests.score_options(top_k, require_verdict)
    call = partial(requests.score_embeddings, name, fingerprint, options)
    return Batch(call, _score_columns, wire.Result, EMBEDDINGS)


def embed() -> EmbedBatch:
    """Images embedded."""
    return Batch(requests.embed, _embed_columns, wire.EmbedResult)


def embed_texts() -> EmbedBatch:
    """Texts embedded."""
    return Batch(requests.embed_texts, _embed_columns, wire.EmbedResult, TEXTS)


def embedding_items(embeddings: Iterable[Any]) -> Iterator[Item]:
    """Rows of numbers, of numpy or not, as JSON.

    Raises:
        InvalidArgument: a row is no row of finite numbers.
    """
    for place, row in enumerate(embeddings):
        try:
            values = row.tolist() if hasattr(row, "tolist") else [float(x) for x in row]
            yield Item(None, json.dumps(values, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"embedding {place} is no row of finite numbers: {error}") from error


def text_items(texts: Iterable[str]) -> list[Item]:
    """Texts as JSON strings.

    Raises:
        InvalidArgument: not texts.
    """
    if isinstance(texts, str):
        raise InvalidArgument("texts must be a list of texts, not one string: use [text]")
    request = checked(wire.EmbedRequest, texts=list(texts) or None)
    return [Item(None, json.dumps(text).encode()) for text in request.texts or ()]


def first_column(piece: ScorePiece) -> list[wire.Result]:
    """The results of the one detector."""
    return [row[0] for row in piece.rows]


def answer_without_results(detector: wire.Detector) -> wire.ScoreAnswer:
    """What a detector would say of a chunk in which no image is sound."""
    certificate = detector.certificate
    return wire.ScoreAnswer(
        detector=detector.name,
        revision=detector.revision,
        definition_hash=detector.definition_hash,
        model=detector.model,
        score_name=detector.definition.score,
        threshold=None if certificate is None else certificate.threshold,
        warnings=detector.warnings,
        results=[],
    )


def _score_columns(answer: wire.ScoreAnswer) -> list[list[wire.Result]]:
    return [answer.results]


def _embed_columns(answer: wire.Embedded) -> list[list[wire.EmbedResult]]:
    return [answer.results]


def _columns_of_each(answer: wire.ScoreAnswers) -> list[list[wire.Result]]:
    return [each.results for each in answer.answers]
