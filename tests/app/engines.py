"""Running engines for tests, and an encoder that can be held, watched and made to fail."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from PIL import Image

from app.engine import Engine, EngineLimits
from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from mcm.errors import EncoderError
from tests.fakes import POISON, ColourEncoder

PATIENCE_S = 20
T = TypeVar("T")
Colour = tuple[int, int, int]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORRUPT = b"\x89PNG\r\n\x1a\n and then nothing that makes sense"


def png(colour: Colour, side: int = 4) -> bytes:
    """A plain image file."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


BAD = png(POISON)


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario to its end; one that hangs fails."""
    return asyncio.run(asyncio.wait_for(scenario, PATIENCE_S))


class Watched(ColourEncoder):
    """Records what is prepared and forwarded, by colour and by text, and on which threads.

    `gate` holds every forward, `prepare_gate` every preparation. A text "poison" makes the forward raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prepare_gate = threading.Event()
        self.prepare_gate.set()
        self.prepared: list[Colour] = []
        self.forwards: list[list[Colour] | list[str]] = []
        self.threads: dict[str, set[str]] = {}
        self._news = threading.Condition()

    def prepare(self, image: Image.Image) -> Pixels:
        self._note("prepare", lambda: self.prepared.append(image.getpixel((0, 0))))  # type: ignore[arg-type]
        self.prepare_gate.wait()
        return super().prepare(image)

    def encode_images(self, pixels: Pixels) -> Vectors:
        colours = [tuple(int(c) for c in image[:, 0, 0]) for image in pixels]
        self._note("encode_images", lambda: self.forwards.append(colours))  # type: ignore[arg-type]
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self._note("encode_texts", lambda: self.forwards.append(list(texts)))
        if "poison" in texts:
            raise EncoderError("the forward pass failed: poison")
        self.gate.wait()
        return super().encode_texts(texts)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        self._note("truncated", lambda: None)
        return super().truncated(texts)

    def warmup(self) -> None:
        self._note("warmup", lambda: None)

    async def until(self, condition: Callable[["Watched"], bool]) -> None:
        """Wait until something that is recorded here has come true."""
        await asyncio.to_thread(self._wait, condition)

    def _wait(self, condition: Callable[["Watched"], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: condition(self), PATIENCE_S), "it never came true"

    def _note(self, what: str, record: Callable[[], None]) -> None:
        with self._news:
            record()
            self.threads.setdefault(what, set()).add(threading.current_thread().name)
            self._news.notify_all()


@asynccontextmanager
async def running(encoder: ColourEncoder | None = None, **limits: Any) -> AsyncIterator[Engine]:
    """A started engine; at the end its gates are opened and it is stopped."""
    encoder = encoder or Watched()
    engine = Engine(encoder, EngineLimits(**{"decode_threads": 2, **limits}))
    await engine.start()
    try:
        yield engine
    finally:
        encoder.gate.set()
        if isinstance(encoder, Watched):
            encoder.prepare_gate.set()
        await engine.stop(PATIENCE_S)


@asynccontextmanager
async def held(engine: Engine, encoder: Watched) -> AsyncIterator[None]:
    """Inside, the model thread is busy with one white image, so that all else waits; then it goes on."""
    encoder.gate.clear()
    plug = asyncio.create_task(engine.embed_images([png(WHITE)]))
    await encoder.until(lambda e: len(e.forwards) == 1)
    try:
        yield
    finally:
        encoder.gate.set()
        await plug


async def send(work: Awaitable[T]) -> "asyncio.Task[T]":
    """Start some work and let it run up to its first wait."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    return task
