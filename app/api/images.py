"""From uploads to embeddings: each image's row, or its own error in its place."""

from collections.abc import Iterator, Sequence

import numpy as np
from starlette.responses import Response

from app.api.answers import problem_response
from app.api.convert import Outcome, Seen, embedding_of
from app.api.upload import Upload
from app.errors import InvalidRequest
from app.metrics import Work
from app.service import Service
from mcm import wire
from mcm.detector import Detector, Local
from mcm.embeddings import Vectors
from mcm.errors import McmError
from mcm.scores import get_score

MAX_CONCEPTS_OF_PATCHES = 20_000  # in one request: every patch is held against every one of them


async def embed_uploads(
    service: Service,
    uploads: Sequence[Upload],
    work: Work,
    *,
    done: str,
    detectors: Sequence[Detector] = (),
    explain: bool = False,
) -> list[Outcome]:
    """The embedding of each image, or its error; `done` is the outcome that the metrics tell of the good.

    Patches are looked at only if one of the detectors needs them, or `explain` asks for them.

    Raises:
        NoPatches: the encoder gives none.
        InvalidRequest: patches would be held against too many concepts.
    """
    usable = [upload.data for upload in uploads if isinstance(upload.data, bytes)]
    work.images = len(uploads)
    asking = [d if explain or get_score(d.definition.score).local else None for d in detectors]
    if any(asking):
        check_concepts_of_patches(asking)
        rows: Iterator[Outcome] = iter(await see(service, usable, work, asking))
    else:
        rows = iter(await service.engine.embed_images(usable, timings=work.timings))
    outcomes: list[Outcome] = [
        next(rows) if isinstance(upload.data, bytes) else upload.data for upload in uploads
    ]
    service.metrics.count_images(work, outcomes, done)
    return outcomes


async def see(
    service: Service, blobs: Sequence[bytes], work: Work, detectors: Sequence[Detector | None]
) -> list[Outcome]:
    """The embedding of each image with what its patches say under each of the detectors; or its error."""

    def look(embedding: Vectors, patches: Vectors) -> tuple[Local | None, ...]:
        return tuple(None if d is None else d.local(embedding[None], patches[None])[0] for d in detectors)

    found = await service.engine.embed_with_patches(blobs, look, timings=work.timings)
    return [outcome if isinstance(outcome, McmError) else Seen(*outcome) for outcome in found]


def local_of(outcomes: Sequence[Outcome], detector: int) -> list[Local] | None:
    """What the patches of the good images say under a detector of the request; None if it asks for none."""
    good = [outcome for outcome in outcomes if not isinstance(outcome, McmError)]
    seen = [outcome.local[detector] for outcome in good if isinstance(outcome, Seen)]
    local = [one for one in seen if one is not None]
    return local if len(local) == len(good) else None


def rows_of(outcomes: Sequence[Outcome], dim: int) -> Vectors:
    """The embeddings among the outcomes as a matrix (n, dim)."""
    rows = [embedding_of(outcome) for outcome in outcomes if not isinstance(outcome, McmError)]
    return np.stack(rows) if rows else np.empty((0, dim), dtype=np.float32)


def require_images(uploads: Sequence[Upload], alternative: object = None, what: str = "") -> None:
    """Exactly one of images and the alternative, `what`, must be there.

    Raises:
        InvalidRequest: both or none.
    """
    if bool(uploads) == (alternative is not None):
        files = "images, as files in the field 'images' or as base64 in JSON"
        raise InvalidRequest(f"send {files}" + (f", or {what}, and not both" if what else ""))


def all_failed(
    outcomes: Sequence[Outcome], results: Sequence[wire.Answer], request_id: str
) -> Response | None:
    """When every image is bad: the first one's problem, with all results in it. Else None."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, McmError)]
    if not errors or len(errors) < len(outcomes):
        return None
    return problem_response(errors[0], request_id, results=[r.model_dump(mode="json") for r in results])


def check_concepts_of_patches(detectors: Sequence[Detector | None]) -> None:
    """Refuse to hold patches against too many concepts: it is the model thread that would be busy with it.

    Raises:
        InvalidRequest: more than MAX_CONCEPTS_OF_PATCHES.
    """
    concepts = sum(len(d.definition.concepts) for d in detectors if d is not None)
    if concepts > MAX_CONCEPTS_OF_PATCHES:
        raise InvalidRequest(
            f"the patches of each image would be held against {concepts} concepts; at most "
            f"{MAX_CONCEPTS_OF_PATCHES} are: ask fewer detectors at once"
        )
