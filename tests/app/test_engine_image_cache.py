"""The content cache: off by default; with it, the same file again needs no decode and no forward."""

import numpy as np

from mcm.errors import EncoderError, ImageError
from tests.app.engines import BAD, BLUE, CORRUPT, GREEN, RED, Watched, png, run, running

ROOM = 100_000


def test_by_default_the_same_image_is_encoded_again() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder) as engine:
            for _ in range(2):
                await engine.embed_images([png(RED)])
            assert len(encoder.prepared) == 2
            assert engine.cache_bytes["image"] == 0

    run(scenario())


def test_a_known_image_is_neither_decoded_nor_encoded_and_its_row_is_the_same() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, image_cache_bytes=ROOM) as engine:
            first = await engine.embed_images([png(RED), png(GREEN)])
            again = await engine.embed_images([png(GREEN), png(BLUE), png(RED)])
            assert encoder.prepared.count(RED) == encoder.prepared.count(GREEN) == 1
            assert np.array_equal(again[0], first[1])  # type: ignore[arg-type]
            assert np.array_equal(again[2], first[0])  # type: ignore[arg-type]
            assert (engine.stats.cached_images, engine.stats.missed_images) == (2, 3)

    run(scenario())


def test_the_same_image_twice_in_a_request_is_encoded_once() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, image_cache_bytes=ROOM) as engine:
            one, two = await engine.embed_images([png(RED), png(RED)])
            assert np.array_equal(one, two)  # type: ignore[arg-type]
            assert len(encoder.prepared) == 1

    run(scenario())


def test_errors_are_not_remembered_and_stay_in_their_places() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, image_cache_bytes=ROOM) as engine:
            for _ in range(2):
                bad, good, poison = await engine.embed_images([CORRUPT, png(RED), BAD])
                assert isinstance(bad, ImageError)
                assert isinstance(good, np.ndarray)
                assert isinstance(poison, EncoderError)
            assert engine.stats.cached_images == 1

    run(scenario())


def test_known_images_need_no_place() -> None:
    async def scenario() -> None:
        encoder = Watched()
        async with running(encoder, image_cache_bytes=ROOM, max_images=1) as engine:
            await engine.embed_images([png(RED)])
            assert len(await engine.embed_images([png(RED)] * 5)) == 5

    run(scenario())
