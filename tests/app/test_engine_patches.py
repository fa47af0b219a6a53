"""The patch lane: one forward gives embeddings and patches, and only what is made of patches stays."""

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest

from app.engine import EngineFailed
from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from mcm.errors import EncoderError, ImageError, NoPatches
from tests.app.engines import BAD, BLUE, CORRUPT, GREEN, RED, Watched, held, png, run, running, send
from tests.fakes import PatchColourEncoder

DIM = PatchColourEncoder.dim


class WatchedPatches(Watched, PatchColourEncoder):
    """Records the forwards with patches, too."""

    def encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        self._note("encode_patches", lambda: self.forwards.append(["patches"]))
        return super().encode_patches(pixels)


def shape_of(embedding: Vectors, patches: Vectors) -> tuple[Any, ...]:
    assert embedding.shape == (DIM,)
    return patches.shape


def test_each_image_comes_with_its_row_and_what_is_made_of_its_patches() -> None:
    def nearest(embedding: Vectors, patches: Vectors) -> float:
        return float((patches @ embedding).max())

    async def scenario() -> None:
        encoder = PatchColourEncoder()
        async with running(encoder) as engine:
            found = await engine.embed_with_patches([png(RED), png(BLUE)], nearest)
            plain = await engine.embed_images([png(RED), png(BLUE)])
            for outcome, row in zip(found, plain, strict=True):
                assert isinstance(outcome, tuple)
                assert np.array_equal(outcome[0], row)  # type: ignore[arg-type]
                assert outcome[1] == pytest.approx(1, abs=1e-6)

    run(scenario())


def test_one_forward_gives_both_and_others_pay_for_no_patches() -> None:
    async def scenario() -> None:
        encoder = WatchedPatches()
        async with running(encoder) as engine:
            async with held(engine, encoder):
                with_patches = await send(engine.embed_with_patches([png(RED), png(GREEN)], shape_of))
                without = await send(engine.embed_images([png(BLUE)] * 3))
                await encoder.until(lambda e: len(e.prepared) == 6)
            await asyncio.gather(with_patches, without)
            assert encoder.patch_batches == [2]
            assert sum(encoder.batches) == 1 + 3

    run(scenario())


def test_bad_images_fail_alone_in_their_places() -> None:
    async def scenario() -> None:
        async with running(PatchColourEncoder()) as engine:
            corrupt, good, poison = await engine.embed_with_patches([CORRUPT, png(RED), BAD], shape_of)
            assert isinstance(corrupt, ImageError)
            assert isinstance(poison, EncoderError)
            assert isinstance(good, tuple)
            assert good[1] == (2, 2, DIM)
            assert (engine.stats.forwarded, engine.stats.failed, engine.stats.undecodable) == (1, 1, 1)

    run(scenario())


def test_a_caller_whose_reduction_fails_harms_nobody_else() -> None:
    def broken(embedding: Vectors, patches: Vectors) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        encoder = WatchedPatches()
        async with running(encoder) as engine:
            async with held(engine, encoder):
                one = await send(engine.embed_with_patches([png(RED)], broken))
                other = await send(engine.embed_with_patches([png(GREEN)], shape_of))
                await encoder.until(lambda e: len(e.prepared) == 3)
            (failed,), (good,) = await one, await other
            assert encoder.patch_batches == [2]
            assert isinstance(failed, EngineFailed)
            assert isinstance(good, tuple)
            assert engine.readiness().ok

    run(scenario())


def test_the_patches_are_let_go_with_their_batch() -> None:
    seen: list[weakref.ref[Any]] = []

    def remember(embedding: Vectors, patches: Vectors) -> None:
        seen.append(weakref.ref(patches if patches.base is None else patches.base))

    async def scenario() -> None:
        async with running(PatchColourEncoder(), max_batch=1) as engine:
            found = await engine.embed_with_patches([png(RED), png(GREEN), png(BLUE)], remember)
            await engine.embed_images([png(RED)])  # the thread has left the batch behind
            gc.collect()
            assert len(found) == len(seen) == 3
            assert [ref() for ref in seen] == [None] * 3

    run(scenario())


def test_the_image_cache_and_the_patch_lane_do_not_meet() -> None:
    async def scenario() -> None:
        encoder = PatchColourEncoder()
        async with running(encoder, image_cache_bytes=100_000) as engine:
            await engine.embed_images([png(RED)])
            for _ in range(2):
                ((_, shape),) = await engine.embed_with_patches([png(RED)], shape_of)  # type: ignore[misc]
                assert shape == (2, 2, DIM)
            await engine.embed_with_patches([png(GREEN)], shape_of)
            assert encoder.patch_batches == [1, 1, 1]
            assert (engine.stats.cached_images, engine.stats.missed_images) == (0, 1)

    run(scenario())


def test_patches_of_an_encoder_that_gives_none_are_refused_before_any_work() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            with pytest.raises(NoPatches):
                await engine.embed_with_patches([png(RED)], shape_of)
            assert encoder.prepared == []

    run(scenario())


def test_images_of_both_lanes_count_as_waiting() -> None:
    async def scenario() -> None:
        encoder = WatchedPatches()
        async with running(encoder) as engine:
            async with held(engine, encoder):
                one = await send(engine.embed_with_patches([png(RED)] * 2, shape_of))
                other = await send(engine.embed_images([png(GREEN)] * 3))
                await encoder.until(lambda e: len(e.prepared) == 6)
                while engine.queue_lengths()["decode"]:
                    await asyncio.sleep(0)
                assert engine.admission.images_in_use == 6
            await asyncio.gather(one, other)
            assert engine.queue_lengths() == {"decode": 0, "model": 0, "prompts": 0}

    run(scenario())


def test_nothing_asked_for_needs_no_forward() -> None:
    async def scenario() -> None:
        encoder = PatchColourEncoder()
        async with running(encoder) as engine:
            assert await engine.embed_with_patches([], shape_of) == []
            assert encoder.patch_batches == []

    run(scenario())
