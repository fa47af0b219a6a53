"""What the engine measures of its work, in plain numbers."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from app.engine import Histogram, Timings
from app.engine.calls import Call, Lane
from tests.app.engines import BLUE, CORRUPT, GREEN, RED, Watched, held, png, run, running, send


def test_a_value_is_counted_below_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram([1, 2, 4])
    histogram.add([0, 1, 1.5, 2, 4, 4.5, 100])
    assert histogram.read() == ([2, 2, 1, 2], 113)


@given(st.lists(st.floats(-10, 10)), st.lists(st.floats(-5, 5), unique=True).map(sorted))
def test_every_value_is_counted_once(values: list[float], bounds: list[float]) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.add([value])
    counts, _ = histogram.read()
    assert len(counts) == len(bounds) + 1
    for i, bound in enumerate(bounds):
        assert sum(counts[: i + 1]) == sum(value <= bound for value in values)
    assert sum(counts) == len(values)


def test_the_wait_of_a_call_is_that_of_its_first_job_to_reach_the_model() -> None:
    async def scenario() -> None:
        call: Call[None] = Call(3)
        for seconds in (2.0, 5.0, 1.0):
            call.waited(seconds)
        assert call.timings == Timings(queue_s=2.0)

    run(scenario())


def test_the_time_of_images_is_told_step_by_step() -> None:
    async def scenario() -> None:
        async with running() as engine:
            good, bad = Timings(), Timings()
            await engine.embed_images([png(RED), png(GREEN), CORRUPT], timings=good)
            await engine.embed_images([CORRUPT], timings=bad)
            assert good.queue_s > 0
            assert good.decode_s > 0
            assert good.forward_s > 0
            assert bad.decode_s > 0
            assert bad.queue_s == bad.forward_s == 0

    run(scenario())


def test_the_wait_for_a_decoder_is_part_of_the_queue() -> None:
    async def scenario() -> None:
        async with running(encoder := Watched(), decode_threads=1) as engine:
            encoder.prepare_gate.clear()
            first = await send(engine.embed_images([png(RED)]))
            await encoder.until(lambda e: len(e.prepared) == 1)
            second = await send(engine.embed_images([png(BLUE)], timings=(timings := Timings())))
            since = time.monotonic()
            await asyncio.sleep(0.01)
            waited_s = time.monotonic() - since
            encoder.prepare_gate.set()
            await asyncio.gather(first, second)
            assert timings.queue_s >= waited_s

    run(scenario())


def test_the_time_of_texts_is_told_and_known_ones_take_none() -> None:
    async def scenario() -> None:
        async with running() as engine:
            first, second = Timings(), Timings()
            await engine.embed_texts(["red"], timings=first)
            await engine.embed_texts(["red"], timings=second)
            assert first.forward_s > 0 == first.decode_s
            assert second == Timings()

    run(scenario())


def test_a_shared_forward_counts_once_for_each_call_and_once_for_the_engine() -> None:
    async def scenario() -> None:
        async with running(encoder := Watched()) as engine:
            one, other = Timings(), Timings()
            async with held(engine, encoder):
                calls = [
                    await send(engine.embed_images([png(RED), png(GREEN)], timings=one)),
                    await send(engine.embed_images([png(BLUE)], timings=other)),
                ]
                while engine.queue_lengths()["model"] < 3:
                    await asyncio.sleep(0)
            await asyncio.gather(*calls)
            assert one.forward_s == other.forward_s > 0
            counts, total = engine.stats.batch_size[Lane.IMAGES].read()
            assert (sum(counts), total) == (2, 4)  # the one that held, and the one of three
            assert sum(engine.stats.forward_s[Lane.IMAGES].read()[0]) == 2
            assert sum(engine.stats.queue_s[Lane.IMAGES].read()[0]) == 4
            assert sum(engine.stats.decode_s.read()[0]) == 4

    run(scenario())


def test_the_heartbeat_is_old_while_a_forward_lasts_and_infinite_once_the_thread_has_ended() -> None:
    async def scenario() -> None:
        async with running(encoder := Watched()) as engine:
            assert engine.heartbeat_age_s == 0
            async with held(engine, encoder):
                assert 0 < engine.heartbeat_age_s < float("inf")
        assert engine.heartbeat_age_s == float("inf")

    run(scenario())
