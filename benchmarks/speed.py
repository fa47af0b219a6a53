"""Speed of the service, as ratios to the ceiling and to rivals: `python -m benchmarks.speed`.

The same random weights, photographs and threads for all; every figure is paired in one run, the median of
five alternated rounds with the lowest and the highest. Rivals: a tutorial's service and LitServe (needs
`pip install litserve`), with open_clip as its README shows it and, apart, with our own encoder; infinity with
`--infinity BIN`, the folder of the programs of an environment with `infinity-emb[torch,server]`, pillow,
torchvision and aiohttp.
"""

import argparse
import base64
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import ceiling, load
from benchmarks.servers import Server, free_port, ours, started
from mcm.encoders import Encoder, load_encoder

SPEC = "ViT-B-32-quickgelu/random:0"
IMAGES = Path(__file__).resolve().parents[2] / "shared" / "images"
CONCEPTS = ["cat", "dog", "bird", "fish", "insect", "snake", "car", "boat", "fruit", "chair"]
ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One target: what is compared, the bar, and the ratios of the rounds."""

    what: str
    bar: str
    ratios: Sequence[float]

    @property
    def figure(self) -> str:
        """Median (lowest .. highest)."""
        return f"{statistics.median(self.ratios):.3f} ({min(self.ratios):.3f} .. {max(self.ratios):.3f})"


@dataclass(frozen=True)
class Rival:
    """Another server, and the request that scores one photograph."""

    name: str
    server: Server
    request: Callable[[bytes], bytes]


class Bench:
    """Servers that sleep, an encoder in this process, and the measurements that run one at a time."""

    def __init__(
        self, stack: ExitStack, images: Sequence[bytes], seconds: float, infinity: Path | None = None
    ) -> None:
        self.images, self.seconds = images, seconds
        self.encoder: Encoder = load_encoder(SPEC)
        self.encoder.warmup()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command, port, environment = ours(SPEC, folder)
        self.ours = stack.enter_context(started("ours", command, port, environment=environment))
        self.rivals = list(rivals(stack, infinity, folder / "infinity"))
        self.generator: list[float] = []

    def rate(self, server: Server, requests: Sequence[bytes], clients: int, images: int = 1) -> float:
        """Images a second that a server answers; longer where few answers come, each of many images."""
        seconds = self.seconds * (1 if images == 1 else 2)
        with server.awake() as port:
            found = load.run(port, requests, clients=clients, warm_s=seconds / 4, seconds=seconds)
        if set(found.statuses) != {200}:
            raise RuntimeError(f"{server.name} answered {found.statuses}")
        self.generator.append(found.cpu_share)
        return found.per_second * images

    def latency(self) -> float:
        """Median seconds of one image by one client."""
        with self.ours.awake() as port:
            found = load.run(port, self.requests(), clients=1, warm_s=2, seconds=self.seconds)
        return statistics.median(found.latencies)

    def requests(self, images: int = 1) -> list[bytes]:
        """One request for each group of `images` photographs."""
        path = "/v1/score"
        groups = [self.images[i : i + images] for i in range(0, len(self.images) - images + 1, images)]
        return [load.multipart(path, group, concepts=str(CONCEPTS).replace("'", '"')) for group in groups]

    def rival_rate(self, rival: Rival, images: Sequence[bytes], clients: int) -> float:
        """The same of a rival, one image a request."""
        return self.rate(rival.server, [rival.request(image) for image in images], clients)

    def ceiling(self) -> float:
        """The better of serial and threaded decode."""
        return max(
            ceiling.serial(self.encoder, cycle(self.images), self.seconds),
            ceiling.threaded(self.encoder, cycle(self.images), self.seconds),
        )


def rivals(stack: ExitStack, infinity: Path | None, folder: Path) -> Iterator[Rival]:
    """The rivals that can run here."""
    for kind in ("open_clip", "our_encoder"):
        for name, ready in (("tutorial", "/readyz"), ("lit", "/health")):
            if name == "lit" and find_spec("litserve") is None:
                print("litserve is not installed: left out", file=sys.stderr)
                continue
            port = free_port()
            command = [sys.executable, "-m", f"benchmarks.rivals.{name}", kind, SPEC, str(port), *CONCEPTS]
            server = stack.enter_context(started(name, command, port, ready=ready))
            yield Rival(f"{name} ({kind})", server, lambda image: load.multipart("/score", [image]))
    if infinity is not None:
        yield Rival("infinity", stack.enter_context(infinity_server(infinity, folder)), infinity_request)


def infinity_server(programs: Path, folder: Path) -> AbstractContextManager[Server]:
    """infinity on the processor, with a CLIP of the same architecture and random weights."""
    writer = Path(__file__).parent / "rivals" / "infinity_model.py"
    subprocess.run([programs / "python", writer, folder], check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [str(programs / "infinity_emb"), "v2", "--model-id", str(folder), "--served-model-name", "clip"]
    command += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--log-level", "error"]
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    return started(
        "infinity",
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        port,
        ready="/health",
        environment=offline,
    )


def infinity_request(image: bytes) -> bytes:
    """infinity takes images as data URIs in JSON."""
    uri = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    body = json.dumps({"model": "clip", "modality": "image", "input": [uri]})
    return load.post("/embeddings", body.encode(), "application/json")


def measure(bench: Bench, rounds: int) -> list[Row]:
    """All targets, round after round."""
    one, sixteen = bench.requests(), bench.requests(16)
    found: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(value)

    for _ in track(range(rounds), "rounds", console=Console(stderr=True)):
        top = bench.ceiling()
        rate = bench.rate(bench.ours, one, 32)
        note("ceiling, images/s", top)
        note("32 clients, 1 image: ours / ceiling", rate / top)
        for rival in bench.rivals:
            note(
                f"32 clients, 1 image: ours / {rival.name}", rate / bench.rival_rate(rival, bench.images, 32)
            )
        note("8 clients, 16 images: ours / ceiling", bench.rate(bench.ours, sixteen, 8, images=16) / top)
        alone = statistics.median(ceiling.single_latency(bench.encoder, bench.images[:40]))
        note("1 client, 1 image: median latency / decode + forward", bench.latency() / alone)
    return [Row(what, BARS.get(what, ""), ratios) for what, ratios in found.items()]


BARS = {
    "32 clients, 1 image: ours / ceiling": ">= 0.95",
    "32 clients, 1 image: ours / lit (open_clip)": ">= 1.15",
    "32 clients, 1 image: ours / tutorial (open_clip)": ">= 1.9",
    "32 clients, 1 image: ours / infinity": "> 1",
    "8 clients, 16 images: ours / ceiling": ">= 0.97",
    "1 client, 1 image: median latency / decode + forward": "<= 1.10",
}


def print_rows(rows: Sequence[Row]) -> None:
    table = Table("what", "target", "median (lowest .. highest)")
    for row in rows:
        table.add_row(row.what, row.bar, row.figure)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--infinity", type=Path, help="folder of the programs of its environment")
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    with ExitStack() as stack:
        bench = Bench(stack, images, arguments.seconds, arguments.infinity)
        rows = measure(bench, arguments.rounds)
    print_rows(rows)
    print(f"the load generator took {max(bench.generator) / 2:.1%} of the two cores at most")


if __name__ == "__main__":
    main()
