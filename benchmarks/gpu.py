"""The service on a GPU: `python -m benchmarks.gpu`. Ends with code 1 where there is none.

For each architecture (random weights, fp16): the bare forward by batch size and its memory, how many cores of
decoding feed it, and the service against the bare forward.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.servers import ours, started
from benchmarks.speed import CONCEPTS, IMAGES
from mcm import load_image
from mcm.encoders import Encoder, load_encoder

ARCHITECTURES = ("ViT-B-16/random:0", "ViT-L-14/random:0")
BATCHES = (1, 4, 16, 32, 64, 128, 256)
MIB = 2**20


def forward_rate(encoder: Encoder, images: Sequence[bytes], batch: int, seconds: float) -> float:
    """Images a second of the forward alone, pixels in memory to rows in memory."""
    pixels = np.stack([encoder.prepare(load_image(images[i % len(images)])) for i in range(batch)])
    for _ in range(3):
        encoder.encode_images(pixels)
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        count += len(encoder.encode_images(pixels))
    return count / (time.perf_counter() - start)


def decode_rate(encoder: Encoder, images: Sequence[bytes], threads: int, seconds: float) -> float:
    """Images a second that `threads` threads decode and prepare."""
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        count = 0
        while time.perf_counter() < end:
            encoder.prepare(load_image(images[count % len(images)]))
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / seconds


def service_rate(spec: str, images: Sequence[bytes], batch: int, clients: int, seconds: float) -> float:
    """Images a second of the service, one image a request."""
    fields = {"concepts": str(CONCEPTS).replace("'", '"')}
    requests = [load.multipart("/v1/score", [image], **fields) for image in images]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command, port, environment = ours(spec, folder, MCM_MAX_BATCH=str(batch))
        server = stack.enter_context(started("ours", command, port, environment=environment))
        with server.awake():
            return load.run(port, requests, clients=clients, warm_s=3, seconds=seconds).per_second


def measure(spec: str, images: Sequence[bytes], seconds: float) -> Table:
    """One architecture."""
    encoder = load_encoder(spec, device="cuda")
    table = Table("what", "images/s", title=f"{spec}, {encoder.dtype}, {torch.cuda.get_device_name()}")
    rates = {}
    for batch in BATCHES:
        torch.cuda.reset_peak_memory_stats()
        rates[batch] = forward_rate(encoder, images, batch, seconds)
        peak = torch.cuda.max_memory_allocated() / MIB
        table.add_row(f"forward, batch {batch} ({peak:.0f} MiB)", f"{rates[batch]:.0f}")
    cores = os.cpu_count() or 1
    one, all_ = decode_rate(encoder, images, 1, seconds), decode_rate(encoder, images, cores, seconds)
    best = max(rates.values())
    table.add_row(f"decode, one thread (the forward needs {best / one:.1f} of them)", f"{one:.0f}")
    table.add_row(f"decode, {cores} threads", f"{all_:.0f}")
    del encoder
    torch.cuda.empty_cache()
    for batch in (32, 128):
        rate = service_rate(spec, images, batch, 4 * batch, max(seconds, 10))
        bound = min(rates[batch], all_)
        table.add_row(
            f"service, MCM_MAX_BATCH={batch} ({rate / bound:.2f} of min(forward, decode))", f"{rate:.0f}"
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured", file=sys.stderr)
        return 1
    images = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    for spec in ARCHITECTURES:
        Console().print(measure(spec, images, arguments.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
