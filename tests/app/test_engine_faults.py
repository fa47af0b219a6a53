"""What goes wrong inside: every call ends in a row or an error, and the next one is served."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.engine import Engine, EngineFailed, EngineLimits
from app.engine.calls import Call, Inbox
from app.engine.fair_queue import FairQueue
from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from mcm.errors import BrokenImage, EncoderError, ImageError
from tests.app.engines import (
    BAD,
    BLUE,
    CORRUPT,
    GREEN,
    RED,
    Watched,
    held,
    png,
    run,
    running,
    send,
)


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="app.engine")


class Faulty(Watched):
    """Gives what `fault` makes of the right rows; `fault` may also raise."""

    def __init__(self, fault: Callable[[Vectors], Vectors]) -> None:
        super().__init__()
        self.fault: Callable[[Vectors], Vectors] | None = fault

    def encode_images(self, pixels: Pixels) -> Vectors:
        rows = super().encode_images(pixels)
        return self.fault(rows) if self.fault else rows

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        rows = super().encode_texts(texts)
        return self.fault(rows) if self.fault else rows


async def serves(engine: Engine) -> bool:
    """Whether the next valid requests are answered as if nothing had happened."""
    (row,) = await engine.embed_images([png(GREEN)])
    return isinstance(row, np.ndarray) and (await engine.embed_texts(["green"])).shape == (1, 16)


def raising(error: BaseException) -> Callable[[Vectors], Vectors]:
    def fault(rows: Vectors) -> Vectors:
        raise error

    return fault


# Images that cannot be used


@pytest.mark.parametrize("file", [png(RED, side=1), CORRUPT, b"", b"<html>", png(RED)[:-20]])
def test_no_file_harms_the_engine(file: bytes) -> None:
    async def scenario() -> None:
        async with running() as engine:
            (outcome,) = await engine.embed_images([file])
            assert isinstance(outcome, np.ndarray | ImageError)
            assert engine.readiness().ok
            assert await serves(engine)

    run(scenario())


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((3, 8, 9), np.uint8),
        np.zeros((1, 8, 8), np.uint8),
        np.zeros((3, 8, 8), np.float32),
        np.zeros((8, 8), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_fail_their_image_alone(pixels: Pixels) -> None:
    class Odd(Watched):
        def prepare(self, image: Image.Image) -> Pixels:
            return pixels if image.getpixel((0, 0)) == RED else super().prepare(image)

    async def scenario() -> None:
        async with running(Odd()) as engine:
            odd, good = await engine.embed_images([png(RED), png(BLUE)])
            assert isinstance(odd, EncoderError)
            assert isinstance(good, np.ndarray)

    run(scenario())


@pytest.mark.parametrize("error", [ValueError("inside"), MemoryError(), ZeroDivisionError()])
def test_an_error_of_the_encoders_own_preparation_fails_its_image_alone(error: Exception) -> None:
    class Picky(Watched):
        def prepare(self, image: Image.Image) -> Pixels:
            if image.getpixel((0, 0)) == RED:
                raise error
            return super().prepare(image)

    async def scenario() -> None:
        async with running(Picky()) as engine:
            bad, good = await engine.embed_images([png(RED), png(BLUE)])
            assert isinstance(bad, BrokenImage)
            assert "inside" not in str(bad)
            assert isinstance(good, np.ndarray)

    run(scenario())


# Forwards that fail


def test_only_the_poisoned_image_of_a_batch_fails() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=32) as engine:
            async with held(engine, encoder):
                files = [BAD if i == 13 else png((i, i, 9)) for i in range(32)]
                mixed = await send(engine.embed_images(files))
                other = await send(engine.embed_images([png(RED)] * 3))
            outcomes = await mixed
            assert isinstance(outcomes[13], EncoderError)
            assert all(isinstance(row, np.ndarray) for i, row in enumerate(outcomes) if i != 13)
            assert all(isinstance(row, np.ndarray) for row in await other)
            assert engine.stats.failed == 1
            assert await serves(engine)

    run(scenario())


@pytest.mark.parametrize("error", [EncoderError("once"), RuntimeError("cuda"), MemoryError()])
def test_a_forward_that_raises_once_costs_nobody_anything(error: Exception) -> None:
    failures = [error]

    def once(rows: Vectors) -> Vectors:
        if failures and len(rows) > 1:
            raise failures.pop()
        return rows

    async def scenario() -> None:
        encoder = Faulty(once)
        async with running(encoder) as engine:
            async with held(engine, encoder):
                call = await send(engine.embed_images([png(RED)] * 9))
                await encoder.until(lambda e: e.prepared.count(RED) == 9)
            assert all(isinstance(row, np.ndarray) for row in await call)
            assert failures == []
            assert await serves(engine)

    run(scenario())


@pytest.mark.parametrize(
    "fault",
    [
        raising(EncoderError("broken")),
        raising(RuntimeError("secret path /opt/model")),
        lambda rows: np.concatenate([rows, rows]),
        lambda rows: rows[1:],
        lambda rows: rows[:, 1:],
        lambda rows: np.full_like(rows, np.nan),
        lambda rows: np.full_like(rows, np.inf),
        lambda rows: None,
        lambda rows: "rows",
    ],
    ids=["raises", "raises-foreign", "more-rows", "fewer-rows", "short-rows", "nan", "inf", "none", "text"],
)
def test_a_broken_encoder_gives_each_item_an_encoder_error(fault: Callable[[Vectors], Vectors]) -> None:
    async def scenario() -> None:
        encoder = Faulty(fault)
        async with running(encoder) as engine:
            outcomes = await engine.embed_images([png(RED)] * 5)
            assert [type(outcome) for outcome in outcomes] == [EncoderError] * 5
            assert "secret" not in str(outcomes[0])
            with pytest.raises(EncoderError):
                await engine.embed_texts(["red", "blue"])
            encoder.fault = None
            assert await serves(engine)
            assert (await engine.embed_texts(["red"])).shape == (1, 16)  # no failure was cached

    run(scenario())


def test_one_row_of_nan_fails_its_own_item() -> None:
    def spoil(rows: Vectors) -> Vectors:
        blue = rows[:, 2] > 0
        return np.where(blue[:, None], np.nan, rows).astype(np.float32)

    async def scenario() -> None:
        async with running(Faulty(spoil)) as engine:
            outcomes = await engine.embed_images([png(RED), png(BLUE), png(GREEN)])
            assert [isinstance(outcome, EncoderError) for outcome in outcomes] == [False, True, False]

    run(scenario())


def test_an_encoder_that_cannot_count_tokens_is_an_encoder_error() -> None:
    class Mute(Watched):
        def truncated(self, texts: Sequence[str]) -> list[bool]:
            raise KeyError("vocabulary")

    async def scenario() -> None:
        async with running(Mute()) as engine:
            with pytest.raises(EncoderError, match="tokens"):
                await engine.truncated(["a"])
            assert await serves(engine)

    run(scenario())


# The engine's own faults


@pytest.mark.parametrize("panic", [SystemExit(1), KeyboardInterrupt(), BaseException("panic")])
def test_no_exception_of_foreign_code_ends_a_thread(panic: BaseException) -> None:
    async def scenario() -> None:
        encoder = Faulty(raising(panic))
        async with running(encoder) as engine:
            outcomes = await engine.embed_images([png(RED)] * 2)
            assert [type(outcome) for outcome in outcomes] == [EngineFailed] * 2
            encoder.fault = None
            assert engine.readiness().ok
            assert await serves(engine)

    run(scenario())


def test_a_panic_in_a_decoder_fails_its_image_and_the_pool_lives_on() -> None:
    class Panics(Watched):
        def prepare(self, image: Image.Image) -> Pixels:
            if image.getpixel((0, 0)) == RED:
                raise SystemExit
            return super().prepare(image)

    async def scenario() -> None:
        async with running(Panics(), decode_threads=1) as engine:
            bad, good = await engine.embed_images([png(RED), png(BLUE)])
            assert isinstance(bad, EngineFailed)
            assert isinstance(good, np.ndarray)
            assert engine.readiness().ok

    run(scenario())


def test_a_bug_in_batch_formation_ends_the_waiting_calls_and_later_ones_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(queue: FairQueue[object, object], most: int) -> list[object]:
        raise IndexError("a bug")

    async def scenario() -> None:
        async with running() as engine:
            with monkeypatch.context() as patch:
                patch.setattr(FairQueue, "take", broken)
                with pytest.raises(EngineFailed):
                    await engine.embed_texts(["red", "blue"])
                outcomes = await engine.embed_images([png(RED)] * 3)
                assert [type(outcome) for outcome in outcomes] == [EngineFailed] * 3
            assert engine.readiness().ok
            assert await serves(engine)

    run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_a_thread_dies_the_engine_is_not_ready_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[object]:
        raise IndexError("a bug that cannot be contained")

    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            encoder.prepare_gate.clear()
            preparing = await send(engine.embed_images([png(RED)] * 2))
            await encoder.until(lambda e: len(e.prepared) == 2)
            monkeypatch.setattr(FairQueue, "take", broken)
            monkeypatch.setattr(Inbox, "drain", broken)
            waiting = await send(engine.embed_texts(["red", "blue"]))
            outcomes = await asyncio.gather(preparing, waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [EngineFailed] * 2
            assert not engine.readiness().ok
            with pytest.raises(EngineFailed):
                await engine.embed_images([png(RED)])
            assert engine.admission.images_in_use == engine.admission.prompts_in_use == 0

    run(scenario())


def test_a_warm_up_that_fails_is_told_by_start_and_never_ready() -> None:
    class Cold(Watched):
        def warmup(self) -> None:
            raise RuntimeError("no kernel")

    async def scenario() -> None:
        engine = Engine(Cold(), EngineLimits())
        with pytest.raises(EncoderError, match="warm up"):
            await engine.start()
        assert not engine.readiness().ok
        await engine.stop(0)

    run(scenario())


# Everything at once

Files = st.lists(st.sampled_from(["good", "corrupt", "poison"]), min_size=1, max_size=7)
Callers = st.lists(
    st.one_of(
        st.tuples(st.just("images"), Files, st.booleans()),
        st.tuples(
            st.just("texts"),
            st.lists(st.sampled_from(["red", "blue", "poison", "x"]), min_size=1),
            st.booleans(),
        ),
    ),
    max_size=12,
)
FILES = {"good": png(RED), "corrupt": CORRUPT, "poison": BAD}
KINDS = {"good": np.ndarray, "corrupt": ImageError, "poison": EncoderError}


@settings(max_examples=60, deadline=None)
@given(Callers, st.sampled_from([1, 3, 32]), st.booleans())
def test_whatever_is_mixed_every_call_ends_rightly_and_all_places_are_free(
    callers: list[tuple[str, list[str], bool]], max_batch: int, hold: bool
) -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=max_batch, text_cache_bytes=2000) as engine:
            if hold:
                encoder.gate.clear()
            tasks = [await send(start(engine, kind, items)) for kind, items, _ in callers]
            for task, (_, _, leaves) in zip(tasks, callers, strict=True):
                if leaves:
                    task.cancel()
            encoder.gate.set()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome, (kind, items, leaves) in zip(outcomes, callers, strict=True):
                if not leaves:
                    check(kind, items, outcome)
            assert engine.admission.images_in_use == 0
            assert engine.admission.prompts_in_use == 0
            assert await serves(engine)

    run(scenario())


async def start(engine: Engine, kind: str, items: list[str]) -> object:
    if kind == "images":
        return await engine.embed_images([FILES[item] for item in items])
    return await engine.embed_texts(items)


def check(kind: str, items: list[str], outcome: object) -> None:
    if kind == "images":
        assert isinstance(outcome, list)
        assert all(isinstance(got, KINDS[item]) for got, item in zip(outcome, items, strict=True))
    elif "poison" in items:
        assert isinstance(outcome, EncoderError)
    else:
        assert isinstance(outcome, np.ndarray)
        assert outcome.shape == (len(items), 16)


def test_a_place_keeps_its_first_outcome() -> None:
    async def scenario() -> None:
        call: Call[int] = Call(2)
        call.settle(0, 1)
        call.settle(0, EngineFailed())  # a handler that failed after it had answered
        assert not call.done.done()
        call.settle(1, 2)
        call.settle(1, EngineFailed())
        call.fail(EngineFailed())
        assert await call.done == [1, 2]

    run(scenario())
