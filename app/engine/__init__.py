"""The engine: admission, decode pool, fair batches, one model thread. It knows encoders and images, not HTTP.

engine = Engine(encoder, EngineLimits())
await engine.start()
with engine.admission.bytes(len(body)):
    rows = await engine.embed_images(files, deadline=time.monotonic() + 60)
await engine.stop(grace_s=25)
"""

from app.engine.admission import Admission, Hold
from app.engine.engine import Engine, Readiness
from app.engine.errors import (
    DeadlineExceeded,
    Draining,
    EngineError,
    EngineFailed,
    EngineStopped,
    LargerThanAdmission,
    Overloaded,
    Starting,
)
from app.engine.limits import EngineLimits
from app.engine.stats import Histogram, Stats
from app.engine.timings import Timings

__all__ = [
    "Admission",
    "DeadlineExceeded",
    "Draining",
    "Engine",
    "EngineError",
    "EngineFailed",
    "EngineLimits",
    "EngineStopped",
    "Histogram",
    "Hold",
    "LargerThanAdmission",
    "Overloaded",
    "Readiness",
    "Starting",
    "Stats",
    "Timings",
]
