"""More of the service's speed, as ratios within one run: `python -m benchmarks.scenarios`.

Many concepts, many detectors, big photographs, turns between requests, and `mcm score` on a folder.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks import load
from benchmarks.servers import Server
from benchmarks.speed import CONCEPTS, IMAGES, ROUNDS, SPEC, Bench, Row, print_rows

MANY = 10_000
DETECTORS = 20
BIG = (4000, 3000)


def mosaics(images: Sequence[bytes], count: int = 12) -> list[bytes]:
    """12-megapixel photographs with real detail: each a mosaic of the photographs."""
    tiles = [Image.open(io.BytesIO(blob)).convert("RGB") for blob in images]
    made = []
    for i in range(count):
        canvas = Image.new("RGB", BIG)
        position = i * 7
        for x in range(0, BIG[0], 400):
            for y in range(0, BIG[1], 300):
                canvas.paste(tiles[position % len(tiles)].resize((400, 300)), (x, y))
                position += 1
        buffer = io.BytesIO()
        canvas.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def prepare_detectors(server: Server) -> None:
    """One detector of ten concepts, one of ten thousand, and twenty."""
    with server.awake() as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=900) as http:
        bodies = {"few": CONCEPTS, "many": [f"thing number {i}" for i in range(MANY)]}
        bodies |= {f"d{i}": [*CONCEPTS, f"thing {i}"] for i in range(DETECTORS)}
        for name, concepts in bodies.items():
            http.put(f"/v1/detectors/{name}", json={"concepts": concepts}).raise_for_status()


def many_concepts(bench: Bench) -> float:
    """Throughput with 10,000 concepts over that with 10."""

    def rate(name: str) -> float:
        requests = [load.multipart(f"/v1/detectors/{name}/score", [image]) for image in bench.images]
        return bench.rate(bench.ours, requests, 32)

    return rate("many") / rate("few")


def many_detectors(bench: Bench) -> float:
    """Throughput scored with 20 detectors at once over that with one."""

    def rate(names: Sequence[str]) -> float:
        requests = [
            load.multipart("/v1/score", [image], detectors=json.dumps(names)) for image in bench.images
        ]
        return bench.rate(bench.ours, requests, 32)

    return rate([f"d{i}" for i in range(DETECTORS)]) / rate(["d0"])


def turns(bench: Bench) -> float:
    """p95 of one-image requests beside a request of 256, over the time of one forward of 32."""
    pixels = np.stack(
        [bench.encoder.prepare(Image.open(io.BytesIO(b)).convert("RGB")) for b in bench.images[:32]]
    )
    start = time.perf_counter()
    for _ in range(3):
        bench.encoder.encode_images(pixels)
    batch_s = (time.perf_counter() - start) / 3
    big = load.multipart("/v1/detectors/few/score", bench.images[:256])
    small = [load.multipart("/v1/detectors/few/score", [image]) for image in bench.images]
    with bench.ours.awake() as port:
        options = {"clients": 1, "warm_s": 2, "seconds": bench.seconds + 1}
        background = threading.Thread(target=load.run, args=(port, [big]), kwargs=options)
        background.start()
        found = load.run(port, small, clients=1, warm_s=2, seconds=bench.seconds)
        background.join()
    return float(np.quantile(found.latencies, 0.95)) / batch_s


def big_photographs(bench: Bench, images: Sequence[bytes]) -> float | None:
    """Throughput of 12-megapixel photographs over LitServe's."""
    rival = next((rival for rival in bench.rivals if rival.name == "lit (open_clip)"), None)
    if rival is None:
        return None
    ours = bench.rate(bench.ours, [load.multipart("/v1/detectors/few/score", [image]) for image in images], 8)
    return ours / bench.rival_rate(rival, images, 8)


def command_line(bench: Bench, folder: Path) -> float:
    """Images a second of `mcm score` on a folder, load time apart, over the ceiling."""
    options = ["--concepts", ",".join(CONCEPTS), "--encoder", SPEC, "--out"]

    def seconds(path: Path) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "mcm.cli", "score", str(path), *options, f"{scratch}/out.csv"]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            return time.perf_counter() - start

    alone = seconds(min(folder.glob("*.jpg")))
    rate = (len(bench.images) - 1) / (seconds(folder) - alone)
    return rate / bench.ceiling()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=12)
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    big = mosaics(images)
    with ExitStack() as stack:
        bench = Bench(stack, images, arguments.seconds)
        prepare_detectors(bench.ours)
        measurements: dict[tuple[str, str], Callable[[], float | None]] = {
            ("10,000 concepts / 10 concepts", ">= 0.95"): lambda: many_concepts(bench),
            ("20 detectors / 1 detector", ">= 0.97"): lambda: many_detectors(bench),
            ("p95 of one image beside 256 / forward of a batch", "<= 3"): lambda: turns(bench),
            ("12 megapixels: ours / lit (open_clip)", ">= 1.5"): lambda: big_photographs(bench, big),
            ("mcm score DIR / ceiling", ">= 0.97"): lambda: command_line(bench, arguments.images),
        }
        rows = []
        for (what, bar), measure in measurements.items():
            ratios = [ratio for _ in range(arguments.rounds) if (ratio := measure()) is not None]
            if ratios:
                rows.append(Row(what, bar, ratios))
                print(what, rows[-1].figure, file=sys.stderr)
    print_rows(rows)
    print(f"the load generator took {max(bench.generator) / 2:.1%} of the two cores at most")


if __name__ == "__main__":
    main()
