"""The application: everything is built here, nothing at import."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio.to_thread
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import mcm
from app.api import calibrations, detectors, drift, scoring, system
from app.api.answers import problem_response
from app.api.common import request_id_of
from app.api.openapi import describe
from app.asgi import CancelOnDisconnect, Deadline, Observed
from app.catalog import Catalog
from app.drift import DriftWatch
from app.drift_readings import DriftReadings
from app.encodings import Encodings
from app.engine import Engine, EngineLimits
from app.errors import InvalidRequest, http_error
from app.gate import Gate
from app.keys import SHORTEST_SAFE
from app.metrics import Metrics
from app.service import Service
from app.settings import Settings
from app.store import Store, StoreUnavailable
from app.vocabularies import vocabularies_of
from mcm.encoders import Encoder, load_encoder
from mcm.errors import EncoderError, McmError
from mcm.images import ImageLimits

ROUTERS = (system.router, detectors.router, scoring.router, calibrations.router, drift.router)
STATIC = Path(__file__).parent / "static"
DESCRIPTION = "Zero-shot out-of-distribution detection: does an image match one of your class names?"
WAIT_SHARE = 0.5  # of the time of a request, that it may spend waiting for images that came before
log = structlog.get_logger("mcm.app")


def create_app(
    settings: Settings, encoder: Encoder | None = None, on_fatal: Callable[[Exception], None] | None = None
) -> FastAPI:
    """The service as an ASGI app. Without an `encoder`, `settings.encoder` is loaded once it is live.

    `on_fatal` is told why the service can never become ready.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start(app, settings, encoder, on_fatal))
        try:
            yield
        finally:
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            await stop(app)

    if any(key.short for key in (*settings.api_keys, *settings.admin_keys)):
        log.warning(f"a key has fewer than {SHORTEST_SAFE} characters and can be guessed; use a longer one")
    app = FastAPI(
        title="mcm-ood",
        version=mcm.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST loses its body or its key in some clients
    )
    app.state.service = None
    app.state.stopping_since = None  # a moment of time.monotonic(), set by who serves the app
    app.state.metrics = Metrics()
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(McmError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    describe(app)
    app.add_middleware(Deadline, settings=settings)  # the last one added sees a request first
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Observed, metrics=app.state.metrics)
    return app


async def start(
    app: FastAPI,
    settings: Settings,
    given: Encoder | None,
    on_fatal: Callable[[Exception], None] | None,
) -> None:
    """Open the store, load the encoder, start the engine; the service is ready when this is done."""
    try:
        # A load cannot be interrupted; a service that stops meanwhile does not wait for it.
        in_thread = partial(anyio.to_thread.run_sync, abandon_on_cancel=True)
        store = await in_thread(open_store, settings)
        vocabularies = await in_thread(vocabularies_of, settings)
        encoder = await in_thread(load, settings) if given is None else given
        engine = Engine(encoder, engine_limits(settings))
        await engine.start()
    except Exception as error:
        if not isinstance(error, McmError):
            log.exception("the service cannot start")
        if on_fatal is not None:
            on_fatal(error)
        return
    encodings = Encodings(engine, encoder, vocabularies, settings.create_timeout)
    catalog = Catalog(store, encodings, engine, settings)
    watch = DriftWatch(store, encoder.fingerprint) if settings.drift else None
    app.state.service = Service(settings, encoder, engine, store, catalog, app.state.metrics, watch)
    app.state.metrics.watch(engine, catalog, encoder)
    if watch is not None:
        watch.start()
        app.state.metrics.registry.register(DriftReadings(watch))
    log.info(
        "ready", encoder=encoder.name, fingerprint=encoder.fingerprint, device=encoder.device,
        dtype=encoder.dtype, activation=encoder.activation, note=encoder.note,
    )  # fmt: skip


async def stop(app: FastAPI) -> None:
    """Finish what is admitted within the grace that is left, then end threads and connections."""
    service: Service | None = app.state.service
    if service is not None:
        spent_s = time.monotonic() - (app.state.stopping_since or time.monotonic())
        await service.engine.stop(max(0.0, service.settings.shutdown_grace_s - spent_s))
        if service.drift is not None:
            await service.drift.stop()
        service.store.close()


def open_store(settings: Settings) -> Store:
    """The store, with its tables up to date."""
    store = Store(settings.database_url)
    store.migrate()
    return store


def load(settings: Settings) -> Encoder:
    """The encoder that the settings name."""
    return load_encoder(settings.encoder, device=settings.device)


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's share of the settings."""
    return EngineLimits(
        max_images=settings.max_queued_images,
        max_bytes=settings.max_queued_bytes,
        max_prompts=settings.max_queued_prompts,
        max_wait_s=settings.request_timeout * WAIT_SHARE,
        max_batch=settings.max_batch,
        decode_threads=settings.decode_threads,
        image=ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.image_formats),
        text_cache_bytes=settings.text_cache_bytes,
        image_cache_bytes=settings.image_cache_bytes,
        stall_s=settings.stall_s,
    )


async def answer_error(request: Request, error: Exception) -> Response:
    """An error that we know, as its problem; of what broke inside, the log tells more."""
    if isinstance(error, StoreUnavailable | EncoderError):
        log.warning("a part of the service failed", exc_info=error)
    return problem_response(error, request_id_of(request))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """An error of the router: no such route, another method."""
    assert isinstance(error, HTTPException)
    response = problem_response(http_error(error.status_code), request_id_of(request))
    response.headers.update(error.headers or {})
    if methods := allowed_methods(request.scope["path"]):
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def allowed_methods(path: str) -> set[str]:
    """The methods of all routes with this path; the router's own Allow header tells of one route only."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """A path or query parameter that is wrong."""
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
    return problem_response(InvalidRequest(told), request_id_of(request))
