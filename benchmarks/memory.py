"""Memory over time: `python -m benchmarks.memory`.

RSS over 20,000 batches of random size through the engine with a small vision transformer, and over 1,000
requests of random size with B/32; growth is that of the last tenth against the tenth after the warm-up.
"""

import argparse
import asyncio
import io
import os
import random
import statistics
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from app.engine import Engine
from app.engine.calls import Lane
from benchmarks.overload import IMAGES, SPEC, memory_mib
from benchmarks.servers import ours, started
from mcm.encoders import load_encoder
from tests.mcm.encoders.tiny import write_local_dir

CALLERS = 4
MOST_IMAGES = 48  # of one call: more and fewer than a batch
SAMPLES = 200
TARGET = 0.05


class Samples:
    """Memory at regular steps of some work."""

    def __init__(self, pid: int, steps: int) -> None:
        self.mib: list[float] = []
        self._pid, self._steps = pid, steps
        self._lock = threading.Lock()

    def at(self, step: int) -> None:
        """The work has come to `step`."""
        with self._lock:
            if step * SAMPLES >= len(self.mib) * self._steps:
                self.mib.append(memory_mib(self._pid))

    def show(self, what: str) -> None:
        """Print the growth after the warm-up, which is the first tenth."""
        tenth = len(self.mib) // 10
        first = statistics.median(self.mib[tenth : 2 * tenth])
        last = statistics.median(self.mib[-tenth:])
        growth = last / first - 1
        print(
            f"{what}: {first:.0f} MiB after the warm-up, {last:.0f} at the end, {max(self.mib):.0f} at most: "
            f"{growth:+.1%} (target <= {TARGET:.0%})"
        )


def photographs(count: int) -> list[bytes]:
    """Small noisy JPEGs."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (*rng.integers(16, 96, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


async def through_the_engine(spec: str, batches: int, progress: Progress) -> Samples:
    """Random calls by a few callers until so many batches were computed."""
    engine = Engine(load_encoder(spec))
    await engine.start()
    samples, files = Samples(os.getpid(), batches), photographs(64)
    task = progress.add_task("batches", total=batches)

    def done() -> int:
        return sum(engine.stats.batch_size[Lane.IMAGES].read()[0])

    async def call(chance: random.Random) -> None:
        while (step := done()) < batches:
            await engine.embed_images(chance.choices(files, k=chance.randint(1, MOST_IMAGES)))
            samples.at(step)
            progress.update(task, completed=step)

    await asyncio.gather(*(call(random.Random(i)) for i in range(CALLERS)))
    await engine.stop(10)
    return samples


def through_http(spec: str, count: int, images: Sequence[bytes], progress: Progress) -> Samples:
    """Random requests by a few callers."""
    task = progress.add_task("requests", total=count)
    with tempfile.TemporaryDirectory() as folder:
        command, port, environment = ours(spec, Path(folder))
        with (
            started("ours", command, port, environment=environment) as server,
            server.awake(),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as http,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            samples = Samples(server.process.pid, count)

            def post(step: int) -> None:
                chosen = random.Random(step).choices(images, k=random.Random(step).randint(1, 8))
                parts = [("images", (f"{i}.jpg", image)) for i, image in enumerate(chosen)]
                http.post("/v1/score", files=parts, data={"concepts": ["cat", "dog"]}).raise_for_status()
                samples.at(step)
                progress.advance(task)

            list(pool.map(post, range(count)))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--encoder", default=SPEC)
    parser.add_argument("--images", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        tiny = f"local-dir:{write_local_dir(Path(folder) / 'tiny')}"
        if arguments.batches:
            samples = asyncio.run(through_the_engine(tiny, arguments.batches, progress))
            samples.show(f"engine, {arguments.batches} batches")
        if arguments.requests:
            samples = through_http(arguments.encoder, arguments.requests, images, progress)
            samples.show(f"HTTP, {arguments.requests} requests with {arguments.encoder}")


if __name__ == "__main__":
    main()
