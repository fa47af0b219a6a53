"""The running service: what the routes need, in one place, built by the lifespan."""

from dataclasses import dataclass

from fastapi import Request

from app.catalog import Catalog
from app.drift import DriftWatch
from app.engine import Engine
from app.engine.errors import Starting
from app.metrics import Metrics
from app.settings import Settings
from app.store import Store
from mcm.encoders import Encoder


@dataclass(frozen=True)
class Service:
    """Everything that lives as long as the server; `drift` is None where it is not watched."""

    settings: Settings
    encoder: Encoder
    engine: Engine
    store: Store
    catalog: Catalog
    metrics: Metrics
    drift: DriftWatch | None


def service_of(request: Request) -> Service:
    """The service behind a request.

    Raises:
        Starting: the encoder is still loading.
    """
    service: Service | None = request.app.state.service
    if service is None:
        raise Starting("the encoder is still loading; /readyz says when it is ready")
    return service
