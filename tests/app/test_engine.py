"""The engine at work: batches, turns, texts, those who leave, start and stop."""

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from app.engine import (
    DeadlineExceeded,
    Draining,
    Engine,
    EngineLimits,
    EngineStopped,
    LargerThanAdmission,
    Overloaded,
    Starting,
)
from mcm.embeddings import Vectors
from mcm.errors import EncoderError, ImageTooLarge, McmError
from mcm.images import ImageLimits
from tests.app.engines import (
    BLUE,
    CORRUPT,
    GREEN,
    PATIENCE_S,
    RED,
    WHITE,
    Watched,
    held,
    png,
    run,
    running,
    send,
)


def in_use(engine: Engine) -> tuple[int, int, int]:
    door = engine.admission
    return door.images_in_use, door.bytes_in_use, door.prompts_in_use


# Images


def test_each_image_gets_its_own_row_in_its_own_place() -> None:
    async def scenario() -> None:
        async with running() as engine:
            red, blue = await engine.embed_images([png(RED), png(BLUE)])
            (alone,) = await engine.embed_images([png(BLUE)])
            assert isinstance(red, np.ndarray)
            assert red.dtype == np.float32
            assert red.shape == (16,)
            assert isinstance(blue, np.ndarray)
            assert isinstance(alone, np.ndarray)
            assert blue.tolist() == alone.tolist() != red.tolist()

    run(scenario())


@pytest.mark.parametrize("max_batch", [1, 4, 32])
def test_more_images_than_a_batch_are_split(max_batch: int) -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=max_batch) as engine:
            colours = [(i, 255 - i, 7) for i in range(70)]
            rows = await engine.embed_images([png(colour) for colour in colours])
            assert max(encoder.batches) <= max_batch
            assert sum(encoder.batches) == 70
            alone = await engine.embed_images([png(colours[41])])
            assert np.allclose(rows[41], alone[0])  # type: ignore[arg-type]

    run(scenario())


def test_a_bad_image_fails_alone_in_its_place() -> None:
    async def scenario() -> None:
        async with running() as engine:
            outcomes = await engine.embed_images([png(RED), png(BLUE), CORRUPT, png(RED)])
            kinds = [isinstance(outcome, McmError) for outcome in outcomes]
            assert kinds == [False, False, True, False]
            assert (engine.stats.decoded, engine.stats.undecodable, engine.stats.forwarded) == (3, 1, 3)

    run(scenario())


def test_one_corrupt_request_among_eight_leaves_the_other_seven_as_they_are_alone() -> None:
    async def scenario() -> None:
        async with running() as engine:
            colours = [(30 * i, 90, 255 - 30 * i) for i in range(8)]
            alone = [await engine.embed_images([png(colour)]) for colour in colours]
            files = [CORRUPT if i == 3 else png(colour) for i, colour in enumerate(colours)]
            together = await asyncio.gather(*(engine.embed_images([file]) for file in files))
            assert isinstance(together[3][0], McmError)
            for i in set(range(8)) - {3}:
                assert np.allclose(together[i][0], alone[i][0])  # type: ignore[arg-type]

    run(scenario())


def test_limits_of_images_are_the_engines() -> None:
    async def scenario() -> None:
        async with running(image=ImageLimits(max_pixels=10)) as engine:
            (outcome,) = await engine.embed_images([png(RED, side=4)])
            assert isinstance(outcome, ImageTooLarge)

    run(scenario())


def test_no_images_and_no_texts_are_no_work() -> None:
    async def scenario() -> None:
        async with running() as engine:
            assert await engine.embed_images([]) == []
            assert (await engine.embed_texts([])).shape == (0, 16)
            assert await engine.truncated([]) == []

    run(scenario())


# Turns


def test_the_thread_takes_what_has_gathered_and_one_image_does_not_wait_behind_256() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, decode_threads=1, max_batch=32) as engine:
            async with held(engine, encoder):
                big = await send(engine.embed_images([png(RED)] * 256))
                await encoder.until(lambda e: e.prepared.count(RED) == 256)
                small = await send(engine.embed_images([png(BLUE)]))
                # With one decode thread, the blue one is ready once the next is being decoded.
                last = await send(engine.embed_images([png(GREEN)]))
                await encoder.until(lambda e: GREEN in e.prepared)
            await asyncio.gather(big, small, last)
            assert len(encoder.forwards[1]) == 32
            assert BLUE in encoder.forwards[1]

    run(scenario())


def test_one_image_is_decoded_before_the_rest_of_256() -> None:
    async def scenario() -> None:
        encoder = Watched()
        encoder.prepare_gate.clear()
        async with running(encoder, decode_threads=1) as engine:
            big = await send(engine.embed_images([png(RED)] * 256))
            await encoder.until(lambda e: e.prepared == [RED])
            small = await send(engine.embed_images([png(BLUE)]))
            encoder.prepare_gate.set()
            await asyncio.gather(big, small)
            assert BLUE in encoder.prepared[:3]

    run(scenario())


def test_texts_and_images_take_turns_a_batch_each() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, decode_threads=1, max_batch=4) as engine:
            async with held(engine, encoder):
                texts = await send(engine.embed_texts([f"text {i}" for i in range(40)]))
                images = await send(engine.embed_images([png(RED)] * 12))
                await encoder.until(lambda e: e.prepared.count(RED) == 12)
                last = await send(engine.embed_images([png(GREEN)]))
                await encoder.until(lambda e: GREEN in e.prepared)
            await asyncio.gather(texts, images, last)
            kinds = ["text" if isinstance(batch[0], str) else "image" for batch in encoder.forwards[1:]]
            assert kinds[:6] == ["text", "image"] * 3
            assert max(map(len, encoder.forwards)) == 4

    run(scenario())


def test_few_texts_do_not_wait_behind_many() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=4) as engine:
            async with held(engine, encoder):
                many = await send(engine.embed_texts([f"text {i}" for i in range(40)]))
                few = await send(engine.embed_texts(["red"]))
            await asyncio.gather(many, few)
            assert "red" in encoder.forwards[1]

    run(scenario())


def test_each_step_runs_on_its_own_kind_of_thread() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, decode_threads=2) as engine:
            await asyncio.gather(
                engine.embed_images([png(RED)] * 40), engine.embed_texts(["a", "b"]), engine.truncated(["a"])
            )
        model = encoder.threads["warmup"]
        assert len(model) == 1
        assert encoder.threads["encode_images"] == encoder.threads["encode_texts"] == model
        decoders = encoder.threads["prepare"] | encoder.threads["truncated"]
        assert len(decoders) <= 2
        assert not decoders & (model | {threading.current_thread().name})

    run(scenario())


# Texts


def test_texts_are_encoded_once_within_and_between_calls() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            rows = await engine.embed_texts(["red", "blue", "red"])
            assert rows.shape == (3, 16)
            assert rows.dtype == np.float32
            assert np.array_equal(rows[0], rows[2])
            again = await engine.embed_texts(["blue", "green", "red"])
            assert np.array_equal(again[0], rows[1])
            assert sorted(encoder.texts) == ["blue", "green", "red"]
            assert (engine.stats.texts, engine.stats.cached_texts) == (3, 2)

    run(scenario())


def test_two_callers_with_the_same_texts_at_once_encode_them_once() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=4) as engine:
            async with held(engine, encoder):
                texts = [f"text {i}" for i in range(20)]
                calls = [await send(engine.embed_texts(texts)) for _ in range(3)]
            first, *others = await asyncio.gather(*calls)
            assert sorted(encoder.texts) == sorted(texts)
            assert all(np.array_equal(first, other) for other in others)

    run(scenario())


def test_without_room_in_the_cache_texts_are_encoded_again_and_right() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, text_cache_bytes=0) as engine:
            first = await engine.embed_texts(["red", "blue"])
            assert np.array_equal(await engine.embed_texts(["red", "blue"]), first)
            assert len(encoder.texts) == 4

    run(scenario())


def test_known_texts_need_no_place_and_no_forward() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_prompts=2) as engine:
            await engine.embed_texts(["red", "blue"])
            async with held(engine, encoder):
                waiting = await send(engine.embed_texts(["c", "d"]))
                rows = await engine.embed_texts(["red", "blue", "red"])
                assert rows.shape == (3, 16)
            await waiting

    run(scenario())


def test_a_failing_text_fails_its_own_caller_and_not_the_one_who_shares_its_batch() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_batch=4) as engine:
            async with held(engine, encoder):
                bad = await send(engine.embed_texts(["poison", "green"]))
                good = await send(engine.embed_texts(["red", "blue"]))
            with pytest.raises(EncoderError, match="poison"):
                await bad
            assert (await good).shape == (2, 16)
            assert len(encoder.forwards[1]) == 4

    run(scenario())


def test_after_a_failing_text_the_rest_of_its_call_is_dropped() -> None:
    class HoldsAfterPoison(Watched):
        def encode_texts(self, texts: Sequence[str]) -> Vectors:
            if texts == ["poison"]:
                self.gate.clear()
            return super().encode_texts(texts)

    async def scenario() -> None:
        encoder = HoldsAfterPoison()
        async with running(encoder, max_batch=1) as engine:
            bad = await send(engine.embed_texts(["poison", *(f"text {i}" for i in range(100))]))
            with pytest.raises(EncoderError, match="poison"):
                await bad
            encoder.gate.set()
            assert engine.stats.dropped >= 99  # one is in the held forward, or not yet
            assert engine.admission.prompts_in_use == 0

    run(scenario())


def test_truncated_tells_of_each_text_of_many() -> None:
    async def scenario() -> None:
        async with running() as engine:
            texts = ["word " * (30 if i % 3 == 0 else 3) for i in range(1000)]
            assert await engine.truncated(texts) == [i % 3 == 0 for i in range(1000)]

    run(scenario())


# Admission


def test_over_the_limit_is_refused_at_once_and_costs_nothing() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, max_images=10, max_prompts=3) as engine:
            async with held(engine, encoder):
                waiting = await send(engine.embed_images([png(RED)] * 9))
                with pytest.raises(Overloaded) as refused:
                    await engine.embed_images([png(BLUE)])
                assert 1 <= refused.value.retry_after_s <= 60
                with pytest.raises(LargerThanAdmission):
                    await engine.embed_images([png(BLUE)] * 11)
                texts = await send(engine.embed_texts(["a", "b", "c"]))
                with pytest.raises(Overloaded):
                    await engine.embed_texts(["d"])
                with pytest.raises(LargerThanAdmission):
                    await engine.truncated(["a", "b", "c", "d"])
            await asyncio.gather(waiting, texts)
            assert BLUE not in encoder.prepared
            assert in_use(engine) == (0, 0, 0)
            assert len(await engine.embed_images([png(BLUE)] * 10)) == 10

    run(scenario())


# Those who leave


def test_the_queued_work_of_a_caller_who_left_is_not_done_but_counted() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, decode_threads=1) as engine:
            async with held(engine, encoder):
                leaver = await send(engine.embed_images([png(RED)] * 20))
                texts = await send(engine.embed_texts([f"text {i}" for i in range(50)]))
                stayer = await send(engine.embed_images([png(BLUE)]))
                last = await send(engine.embed_images([png(GREEN)]))
                await encoder.until(lambda e: GREEN in e.prepared and e.prepared.count(RED) == 20)
                leaver.cancel()
                texts.cancel()
                await asyncio.wait([leaver, texts])
                assert engine.admission.images_in_use == 3
                assert engine.admission.prompts_in_use == 0
            await asyncio.gather(stayer, last)
            forwarded = [colour for batch in encoder.forwards for colour in batch]
            assert sorted(forwarded) == sorted([WHITE, BLUE, GREEN])
        assert engine.stats.dropped == 70  # complete once the decoders have ended
        assert engine.stats.forwarded == 3

    run(scenario())


def test_the_work_of_a_caller_who_left_is_dropped_before_it_is_decoded() -> None:
    async def scenario() -> None:
        encoder = Watched()
        encoder.prepare_gate.clear()
        async with running(encoder, decode_threads=1) as engine:
            leaver = await send(engine.embed_images([png(RED)] * 20))
            await encoder.until(lambda e: e.prepared == [RED])
            leaver.cancel()
            await asyncio.wait([leaver])
            encoder.prepare_gate.set()
            await engine.embed_images([png(BLUE)])
            assert encoder.prepared == [RED, BLUE]
            assert encoder.forwards == [[BLUE]]  # the one in the decoder's hands was dropped after it
        assert engine.stats.dropped == 20

    run(scenario())


def test_a_burst_of_callers_who_gave_up_leaves_the_engine_well() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            async with held(engine, encoder):
                burst = [await send(engine.embed_images([png(RED)])) for _ in range(100)]
                for task in burst:
                    task.cancel()
                await asyncio.wait(burst)
            assert len(await engine.embed_images([png(BLUE)])) == 1
            assert in_use(engine) == (0, 0, 0)
            assert engine.readiness().ok
        assert engine.stats.dropped == 100  # complete once the decoders have ended
        assert engine.stats.forwarded == 2

    run(scenario())


def test_work_past_its_deadline_ends_and_is_dropped() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            async with held(engine, encoder):
                soon = time.monotonic() + 0.05
                calls = [
                    engine.embed_images([png(RED)] * 3, deadline=soon),
                    engine.embed_texts(["a", "b"], deadline=soon),
                ]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 2
                assert engine.admission.images_in_use == 1
            assert engine.stats.dropped == 5
            assert len(await engine.embed_images([png(BLUE)], deadline=time.monotonic() + PATIENCE_S)) == 1
            assert RED not in [colour for batch in encoder.forwards for colour in batch]

    run(scenario())


def test_a_deadline_that_has_passed_already_costs_no_work() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            with pytest.raises(DeadlineExceeded):
                await engine.embed_images([png(RED)], deadline=time.monotonic() - 1)
            with pytest.raises(DeadlineExceeded):
                await engine.truncated(["a"], deadline=time.monotonic())
            assert encoder.prepared == []
            assert engine.stats.dropped == 2
            assert in_use(engine) == (0, 0, 0)

    run(scenario())


# Start, readiness, stop


class SlowToWarm(Watched):
    """`gate` holds the warm-up."""

    def warmup(self) -> None:
        super().warmup()
        self.gate.wait()


def test_before_the_warm_up_is_done_it_is_starting_and_takes_nothing() -> None:
    async def scenario() -> None:
        encoder = SlowToWarm()
        engine = Engine(encoder, EngineLimits())
        with pytest.raises(Starting):
            await engine.embed_texts(["red"])
        encoder.gate.clear()
        starting = await send(engine.start())
        await encoder.until(lambda e: "warmup" in e.threads)
        assert not engine.readiness().ok
        assert "starting" in engine.readiness().detail
        with pytest.raises(Starting):
            await engine.embed_images([png(RED)])
        encoder.gate.set()
        await starting
        assert engine.readiness().ok
        assert len(await engine.embed_images([png(RED)])) == 1
        await engine.stop(PATIENCE_S)

    run(scenario())


def test_an_idle_engine_is_ready_and_one_that_hangs_in_a_forward_is_not() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, stall_s=1e-6) as engine:
            assert engine.readiness().ok
            async with held(engine, encoder):
                assert not engine.readiness().ok
                assert "forward" in engine.readiness().detail
            assert engine.readiness().ok

    run(scenario())


def test_a_forward_within_its_time_is_ready() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, stall_s=3600) as engine, held(engine, encoder):
            assert engine.readiness().ok

    run(scenario())


def test_stop_refuses_new_work_finishes_the_admitted_and_ends_the_threads() -> None:
    async def scenario() -> None:
        before = set(threading.enumerate())
        encoder = Watched()
        engine = Engine(encoder, EngineLimits(decode_threads=2))
        await engine.start()
        encoder.gate.clear()
        admitted = await send(engine.embed_images([png(RED)] * 50))
        texts = await send(engine.embed_texts(["a", "b"]))
        await encoder.until(lambda e: len(e.forwards) == 1)
        stopping = await send(engine.stop(PATIENCE_S))
        assert not engine.readiness().ok
        with pytest.raises(Draining):
            await engine.embed_images([png(BLUE)])
        with pytest.raises(Draining), engine.admission.bytes(10):
            pass
        encoder.gate.set()
        assert all(isinstance(row, np.ndarray) for row in await admitted)
        assert (await texts).shape == (2, 16)
        await stopping
        engines = [t for t in set(threading.enumerate()) - before if t.name.startswith(("model", "decode"))]
        assert engines == []
        with pytest.raises(Draining):
            await engine.embed_images([png(BLUE)])

    run(scenario())


def test_what_is_not_finished_within_the_grace_ends_with_engine_stopped() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            encoder.gate.clear()
            waiting = [
                await send(engine.embed_images([png(RED)] * 40)),
                await send(engine.embed_texts(["a", "b"])),
            ]
            await encoder.until(lambda e: len(e.forwards) == 1)
            await engine.stop(0.01)
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [EngineStopped] * 2
            assert in_use(engine) == (0, 0, 0)

    run(scenario())


def test_stop_while_images_are_being_prepared_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            encoder.prepare_gate.clear()
            waiting = await send(engine.embed_images([png(RED)] * 5))
            await encoder.until(lambda e: len(e.prepared) == 2)
            await engine.stop(0)
            with pytest.raises(EngineStopped):
                await waiting
            encoder.prepare_gate.set()
        assert encoder.forwards == []

    run(scenario())


def test_an_engine_that_never_started_stops_at_once() -> None:
    run(Engine(Watched(), EngineLimits()).stop(PATIENCE_S * 10))


@pytest.mark.parametrize("grace_s", [0, PATIENCE_S])
def test_an_engine_that_is_stopped_while_it_starts_never_opens(grace_s: float) -> None:
    async def scenario() -> None:
        encoder = SlowToWarm()
        encoder.gate.clear()
        engine = Engine(encoder, EngineLimits())
        starting = await send(engine.start())
        await encoder.until(lambda e: "warmup" in e.threads)
        stopping = await send(engine.stop(grace_s))
        if grace_s:
            encoder.gate.set()
        with pytest.raises(EngineStopped):
            await starting
        await stopping
        assert not engine.readiness().ok
        with pytest.raises(Draining):
            await engine.embed_images([png(RED)])
        encoder.gate.set()

    run(scenario())
