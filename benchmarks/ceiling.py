"""The ceiling: decode and forward in a loop, batch 32, no HTTP; and one image at a time for the latency."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from mcm import load_image
from mcm.encoders import Encoder, Pixels

BATCH = 32


def serial(encoder: Encoder, blobs: Iterator[bytes], seconds: float) -> float:
    """Images a second, decoding and computing in turns."""
    return _rate(
        encoder, (np.stack([_pixels(encoder, b) for b in batch]) for batch in _batches(blobs)), seconds
    )


def threaded(encoder: Encoder, blobs: Iterator[bytes], seconds: float) -> float:
    """Images a second, the next batch being decoded in two threads during the forward."""
    with ThreadPoolExecutor(2) as pool:
        return _rate(encoder, _prefetched(encoder, blobs, pool), seconds)


def single_latency(encoder: Encoder, blobs: Sequence[bytes]) -> list[float]:
    """Seconds for each image alone, decode and forward."""
    latencies = []
    for blob in blobs:
        start = time.perf_counter()
        encoder.encode_images(_pixels(encoder, blob)[None])
        latencies.append(time.perf_counter() - start)
    return latencies


def _prefetched(encoder: Encoder, blobs: Iterator[bytes], pool: ThreadPoolExecutor) -> Iterator[Pixels]:
    ahead = [pool.submit(_pixels, encoder, blob) for blob in next(_batches(blobs))]
    for batch in _batches(blobs):
        ready, ahead = ahead, [pool.submit(_pixels, encoder, blob) for blob in batch]
        yield np.stack([future.result() for future in ready])


def _rate(encoder: Encoder, batches: Iterator[Pixels], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        count += len(encoder.encode_images(next(batches)))
    return count / (time.perf_counter() - start)


def _batches(blobs: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(blobs, BATCH)):
        yield batch


def _pixels(encoder: Encoder, blob: bytes) -> Pixels:
    return encoder.prepare(load_image(blob))
