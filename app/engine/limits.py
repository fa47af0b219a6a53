"""What the engine may hold and do at once."""

import math
import os
from dataclasses import dataclass

from mcm.images import DEFAULT_LIMITS, ImageLimits

MIB = 2**20


@dataclass(frozen=True)
class EngineLimits:
    """Bounds of the engine; `max_images`, `max_bytes` and `max_prompts` count what is admitted at once.

    `max_wait_s`: images that would wait longer, at the measured rate, are refused: a queue that nobody can
    wait for ends in deadlines only. `max_batch`: images or prompts in one forward. `decode_threads`: 0 = one
    a core. `stall_s`: a forward that lasts longer makes the engine unready. `image_cache_bytes`: 0 =
    embeddings of images are not kept.
    """

    max_images: int = 1024
    max_bytes: int = 512 * MIB
    max_prompts: int = 40_000
    max_wait_s: float = math.inf
    max_batch: int = 32
    decode_threads: int = 0
    image: ImageLimits = DEFAULT_LIMITS
    text_cache_bytes: int = 64 * MIB
    image_cache_bytes: int = 0
    stall_s: float = 60

    def __post_init__(self) -> None:
        for name in ("max_images", "max_bytes", "max_prompts", "max_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not self.decode_threads:
            object.__setattr__(self, "decode_threads", os.cpu_count() or 1)
