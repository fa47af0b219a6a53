"""From uploads to embeddings: each image's row, or its own error in its place."""

from collections.abc import Sequence

import numpy as np
from starlette.responses import Response

from app.api.answers import problem_response
from app.api.convert import Outcome
from app.api.upload import Upload
from app.errors import InvalidRequest
from app.metrics import Work
from app.service import Service
from mcm import wire
from mcm.embeddings import Vectors
from mcm.errors import McmError


async def embed_uploads(
    service: Service, uploads: Sequence[Upload], work: Work, *, done: str
) -> list[Outcome]:
    """The embedding of each image, or its error; `done` is the outcome that the metrics tell of the good."""
    usable = [upload.data for upload in uploads if isinstance(upload.data, bytes)]
    work.images = len(uploads)
    rows = iter(await service.engine.embed_images(usable, timings=work.timings))
    outcomes: list[Outcome] = [
        next(rows) if isinstance(upload.data, bytes) else upload.data for upload in uploads
    ]
    service.metrics.count_images(work, outcomes, done)
    return outcomes


def rows_of(outcomes: Sequence[Outcome], dim: int) -> Vectors:
    """The embeddings among the outcomes as a matrix (n, dim)."""
    rows = [outcome for outcome in outcomes if not isinstance(outcome, McmError)]
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
