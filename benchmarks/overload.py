"""Ten times more than the service can do, for a minute: `python -m benchmarks.overload`.

First the peak is measured (32 clients, one photograph a request), then requests arrive at ten times that rate
whatever is answered, then the 32 clients come back. Goodput and peak are set off against the share of the
processor that this generator takes from the service.
"""

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.servers import ours, started
from tests.scrapes import Scrape, parse

SPEC = "ViT-B-32-quickgelu/random:0"
IMAGES = Path(__file__).resolve().parents[2] / "shared" / "images"
CONCEPTS = '["cat", "dog", "bird", "car"]'
ROUTE = "/v1/score"
FACTOR = 10
CLIENTS = 32
AFTER_S = 15.0
WINDOW_S = 4.0  # in which a rate is measured: a few batches
FAST_S = 0.05
MOST_CONNECTIONS = 4000
UNSENT, BROKEN = -1, 0  # in the place of a status
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Answer:
    """When an answer came, how long it took, and its status: BROKEN if the connection broke, UNSENT if all
    connections were taken by requests that were not answered yet.
    """

    at: float
    took_s: float
    status: int


@dataclass
class Traffic:
    """Requests on kept connections: arriving at a rate, or from clients in a loop."""

    port: int
    requests: Sequence[bytes]
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = cycle(self.requests)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0

    async def arrive(self, rate: float, seconds: float) -> set[asyncio.Task[None]]:
        """Start `rate` requests a second, whatever becomes of them; those that are not answered yet."""
        pending: set[asyncio.Task[None]] = set()
        start = time.perf_counter()
        for i in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + i / rate - time.perf_counter()))
            task = asyncio.create_task(self._once())
            pending.add(task)
            task.add_done_callback(pending.discard)
        return pending

    async def loop(self, clients: int, seconds: float) -> None:
        """`clients` that send one request after another."""
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                await self._once()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def _once(self) -> None:
        sent = time.perf_counter()
        try:
            status = await self._ask() if self._idle or self._open < MOST_CONNECTIONS else UNSENT
        except (OSError, asyncio.IncompleteReadError):
            status = BROKEN
            self._open -= 1
        now = time.perf_counter()
        self.answers.append(Answer(now, now - sent, status))

    async def _ask(self) -> int:
        connection = self._idle.pop() if self._idle else await self._connect()
        reader, writer = connection
        writer.write(next(self._next))
        await writer.drain()
        status = await load.read_answer(reader)
        self._idle.append(connection)
        return status

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._open += 1
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)


class Watch:
    """Looks at the server ten times a second: its memory, its health, how much it has admitted."""

    def __init__(self, port: int, pid: int) -> None:
        self.health_s: list[float] = []
        self.memory_mib: list[float] = []
        self.admitted: list[float] = []
        self._pid = pid
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def scrape(self) -> Scrape:
        """The metrics now."""
        return parse(self._http.get("/metrics").text)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            began = time.perf_counter()
            if self._http.get("/readyz").status_code != 200:
                raise RuntimeError("the service is not ready")
            self.health_s.append(time.perf_counter() - began)
            self.memory_mib.append(memory_mib(self._pid))
            if len(self.health_s) % 10 == 0:
                self.admitted.append(self.scrape().value("mcm_admission_used_ratio", places="images") * 1024)


@dataclass(frozen=True)
class Found:
    """What one run saw. Rates in requests a second, times in seconds, shares of all cores."""

    peak: float
    peak_share: float
    goodput: float
    share: float
    statuses: Counter[int]
    p99_s: float
    bound_s: float
    fast_refusals: float
    slowest_health_s: float
    memory_mib: tuple[float, float]
    recovery_s: float | None

    @property
    def ratio(self) -> float:
        """Goodput against peak, each as if the generator took nothing."""
        return self.goodput / (1 - self.share) / (self.peak / (1 - self.peak_share))


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_s() -> float:
    """Processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def good(answers: Sequence[Answer], start: float, end: float) -> int:
    """How many were answered 200 in a span of time."""
    return sum(answer.status == 200 and start <= answer.at < end for answer in answers)


def fast_refusals(before: Scrape, after: Scrape) -> float:
    """Share of 429s answered within 50 ms, from the parsed head to the last byte, by the server's clock.

    Under overload whatever is admitted takes longer, so the fastest answers are the refusals.
    """

    def rise(name: str, **labels: str) -> float:
        return after.value(name, route=ROUTE, **labels) - before.value(name, route=ROUTE, **labels)

    refused = rise("mcm_requests_total", status="429")
    return min(1.0, rise("mcm_request_seconds_bucket", le=str(FAST_S)) / refused) if refused else 1.0


def recovery_s(answers: Sequence[Answer], end: float, peak: float) -> float | None:
    """Seconds from the end of the overload to the first window at 0.9 of the peak."""
    for start in np.arange(0, AFTER_S - WINDOW_S, 0.1):
        if good(answers, end + start, end + start + WINDOW_S) >= 0.9 * peak * WINDOW_S:
            return float(start)
    return None


async def overload(traffic: Traffic, watch: Watch, peak: float, share: float, seconds: float) -> Found:
    """The overload, and the time after it."""
    before, cpu, start = watch.scrape(), cpu_s(), time.perf_counter()
    idle_mib = memory_mib(watch._pid)
    with watch:
        pending = await traffic.arrive(FACTOR * peak, seconds)
        end = time.perf_counter()
        spent_s = cpu_s() - cpu
        after = await asyncio.to_thread(watch.scrape)
        await traffic.loop(CLIENTS, AFTER_S)
    await asyncio.gather(*pending)
    settled = start + min(seconds / 2, 10)  # the queue has filled and the rate is known
    goodput = good(traffic.answers, settled, end) / (end - settled)
    admitted = [answer.took_s for answer in traffic.answers if answer.status == 200 and answer.at < end]
    return Found(
        peak=peak,
        peak_share=share,
        goodput=goodput,
        share=spent_s / (end - start) / CORES,
        statuses=Counter(answer.status for answer in traffic.answers if answer.at < end),
        p99_s=float(np.quantile(admitted, 0.99)) if admitted else float("nan"),
        bound_s=(max(watch.admitted, default=0) + 2 * 32) / goodput if goodput else float("inf"),
        fast_refusals=fast_refusals(before, after),
        slowest_health_s=max(watch.health_s),
        memory_mib=(idle_mib, max(watch.memory_mib)),
        recovery_s=recovery_s(traffic.answers, end, peak),
    )


def show(found: Found) -> None:
    """The figures against their targets."""
    table = Table("what", "target", "measured")
    table.add_row("peak, images/s", "", f"{found.peak:.1f}")
    table.add_row(f"goodput at {FACTOR} times the peak, images/s", "", f"{found.goodput:.1f}")
    table.add_row("generator's share of the cores, then and at the peak", "",
                  f"{found.share:.1%}, {found.peak_share:.1%}")  # fmt: skip
    table.add_row("goodput / peak, without the generator's share", ">= 0.9", f"{found.ratio:.3f}")
    table.add_row("answers by status", "200 and 429", str(dict(found.statuses)))
    table.add_row(f"429s within {FAST_S * 1000:.0f} ms", ">= 99 %", f"{found.fast_refusals:.2%}")
    table.add_row("p99 of what is admitted, s", f"<= {found.bound_s:.1f} (the queue)", f"{found.p99_s:.1f}")
    table.add_row("slowest /readyz, s", "< 1", f"{found.slowest_health_s:.3f}")
    table.add_row("memory idle, at most, MiB", "bounded", "{:.0f}, {:.0f}".format(*found.memory_mib))
    recovery = "never" if found.recovery_s is None else f"{found.recovery_s:.1f}"
    table.add_row("full speed after, s", "<= 2", recovery)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default=SPEC)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--peak-seconds", type=float, default=20)
    arguments = parser.parse_args()
    photographs = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    requests = [load.multipart(ROUTE, [photograph], concepts=CONCEPTS) for photograph in photographs]
    with tempfile.TemporaryDirectory() as folder:
        command, port, environment = ours(arguments.encoder, Path(folder))
        with started("ours", command, port, environment=environment) as server, server.awake():
            peak = load.run(port, requests, clients=CLIENTS, warm_s=5, seconds=arguments.peak_seconds)
            if set(peak.statuses) != {200}:
                sys.exit(f"at the peak the service answered {peak.statuses}")
            watch = Watch(port, server.process.pid)
            traffic = Traffic(port, requests)
            share = peak.cpu_share / CORES
            show(asyncio.run(overload(traffic, watch, peak.per_second, share, arguments.seconds)))


if __name__ == "__main__":
    main()
