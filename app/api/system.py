"""Health, models, metrics and the documentation of the API."""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.api.answers import json_answer
from app.api.common import Running
from app.engine.errors import Draining, Starting
from app.metrics import CONTENT_TYPE
from mcm import wire

router = APIRouter(tags=["system"])
DOCS = Path(__file__).parents[1] / "static" / "docs"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=wire.Status)
async def healthz() -> Response:
    """The process lives. Restart it when this fails."""
    return json_answer(wire.Status(status="live"))


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=wire.Status)
async def readyz(request: Request, service: Running) -> Response:
    """The engine is ready for work. Send traffic only while this is 200."""
    if request.app.state.stopping_since is not None:
        raise Draining
    readiness = service.engine.readiness()
    if not readiness.ok:
        raise Starting(readiness.detail)
    return json_answer(wire.Status(status="ready", detail=readiness.detail))


@router.get("/v1/models", response_model=wire.Models)
async def models(service: Running) -> Response:
    """The encoder that runs, and what to know of it."""
    return json_answer(wire.Models(models=[wire.Model.model_validate(service.encoder)]))


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The API's documentation, from files that came with the service."""
    return FileResponse(DOCS / "index.html")
