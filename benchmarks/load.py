"""A closed-loop load generator: clients on raw sockets that send prebuilt bytes, one request at a time."""

import asyncio
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

BOUNDARY = b"mcm-benchmark"


@dataclass
class Load:
    """What a run saw: latencies of the answered requests in seconds, by status; generator's CPU seconds.

    `begun` and `ended`: when the last answer before the window and the last one in it came. Answers come in
    bursts, a batch at a time: between two of them the rate does not depend on where the window's edges fall.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / (self.ended - self.begun) if self.latencies else 0.0

    @property
    def cpu_share(self) -> float:
        """Share of one core that the generator took."""
        return self.cpu_s / self.seconds


def multipart(path: str, images: Sequence[bytes], field_name: str = "images", **fields: str) -> bytes:
    """The bytes of a POST of images, head and body."""
    parts = [_part(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [_part(f'name="{field_name}"; filename="{i}.jpg"', data) for i, data in enumerate(images)]
    return post(
        path,
        b"".join(parts) + b"--" + BOUNDARY + b"--\r\n",
        "multipart/form-data; boundary=" + BOUNDARY.decode(),
    )


def post(path: str, body: bytes, content_type: str) -> bytes:
    """The bytes of a POST, head and body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(port: int, requests: Sequence[bytes], *, clients: int, warm_s: float, seconds: float) -> Load:
    """Keep `clients` busy for `warm_s` + `seconds`; what is answered in the latter is counted."""
    return asyncio.run(_run(port, cycle(requests), clients, warm_s, seconds))


async def _run(port: int, requests: Iterator[bytes], clients: int, warm_s: float, seconds: float) -> Load:
    start = time.perf_counter() + warm_s
    load = Load(begun=start, ended=start)
    end = start + seconds
    cpu = {}

    def note_cpu(when: str) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu[when] = usage.ru_utime + usage.ru_stime

    loop = asyncio.get_running_loop()
    loop.call_later(warm_s, note_cpu, "start")
    loop.call_later(warm_s + seconds, note_cpu, "end")
    await asyncio.gather(*(_client(port, requests, load, start, end) for _ in range(clients)))
    load.seconds, load.cpu_s = seconds, cpu["end"] - cpu["start"]
    return load


async def _client(port: int, requests: Iterator[bytes], load: Load, start: float, end: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    while (sent := time.perf_counter()) < end:
        writer.write(next(requests))
        await writer.drain()
        status = await read_answer(reader)
        now = time.perf_counter()
        if now < start:
            load.begun = now
        elif now < end:
            load.ended = now
            load.statuses[status] = load.statuses.get(status, 0) + 1
            if status == 200:
                load.latencies.append(now - sent)
    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    if "transfer-encoding: chunked" in head:
        await _read_chunks(reader)
    else:
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
    return int(head.split(" ", 2)[1])


async def _read_chunks(reader: asyncio.StreamReader) -> None:
    size = 1
    while size:
        size = int((await reader.readline()).strip(), 16)
        await reader.readexactly(size + 2)


def _part(disposition: str, data: bytes) -> bytes:
    head = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition.encode()
    return head + b"\r\n\r\n" + data + b"\r\n"
