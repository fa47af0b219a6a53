"""Work on many images: cut into requests, sent side by side, answered in order."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import httpx
import pytest

from mcm.client import AsyncClient, Client, Conflict, TooLarge, UnexpectedAnswer, UnsupportedMedia
from mcm.client.errors import DefinitionChanged
from mcm.errors import DefinitionMismatch
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService, busy, problem, score_answer

MIB = 2**20


def pictures(count: int) -> list[tuple[str, bytes]]:
    return [(f"{i}.jpg", b"x" * i) for i in range(count)]


def test_results_come_in_order_with_their_place_among_all_and_their_names(connect: Connect) -> None:
    service = FakeService()
    results = list(connect(service).score("pets", pictures(100)))
    assert [(r.index, r.name, r.score) for r in results] == [(i, f"{i}.jpg", i) for i in range(100)]
    assert sorted(len(asked.images) for asked in service.asked) == [4, 32, 32, 32]


def test_no_images_make_no_request(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    assert list(client.score("pets", [])) == []
    assert list(client.embed(iter(()))) == []
    assert service.asked == []


def test_requests_are_bounded_in_bytes_and_a_large_image_goes_alone(connect: Connect) -> None:
    service = FakeService()
    sizes = [12, 12, 12, 40, 1, 1]
    results = list(connect(service, max_in_flight=1).score("pets", [bytes(n * MIB) for n in sizes]))
    assert [r.score for r in results] == [n * MIB for n in sizes]
    sent = [[len(data) // MIB for data in asked.images] for asked in service.asked]
    assert sent == [[12, 12], [12], [40], [1, 1]]


def test_images_are_taken_only_as_requests_have_room(connect: Connect) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"abc"

    service = FakeService()
    results = connect(service, max_in_flight=2).score("pets", endless())
    assert taken == 0
    first = [next(results) for _ in range(40)]
    results.close()
    assert [r.index for r in first] == list(range(40))
    assert taken <= 4 * 32


def test_bad_images_are_errors_in_their_own_place(connect: Connect) -> None:
    service = FakeService()
    images = [b"abc", "/nowhere/a.jpg", ("b.jpg", b"bad"), b"abcd"]
    results = list(connect(service).score("pets", images))
    assert [r.score for r in results] == [3, None, None, 4]
    assert [r.error and r.error.code for r in results] == [
        None,
        "unreadable-file",
        "unsupported-image",
        None,
    ]
    assert [r.index for r in results] == [0, 1, 2, 3]
    assert [r.name for r in results] == [None, "/nowhere/a.jpg", "b.jpg", None]
    assert service.asked[0].images == [b"abc", b"bad", b"abcd"]


def test_a_request_of_bad_images_only_does_not_raise(connect: Connect) -> None:
    images = [("a", b"bad1"), "/nowhere/b.jpg", ("c", b"bad2")]
    results = list(connect(FakeService()).score("pets", images))
    assert [(r.index, r.name, r.error.status) for r in results] == [
        (0, "a", 415),
        (1, "/nowhere/b.jpg", 422),
        (2, "c", 415),
    ]


def test_an_error_that_is_not_about_the_images_is_raised(connect: Connect) -> None:
    service = FakeService(problem(409, "not-calibrated"))
    with pytest.raises(Conflict, match="not-calibrated"):
        list(connect(service).score("pets", [b"abc"]))


def test_a_request_that_the_server_finds_too_large_is_sent_in_halves(connect: Connect) -> None:
    service = FakeService()

    def at_most_ten(request: httpx.Request) -> httpx.Response:
        answer = service(request)
        return problem(413, "too-large") if len(service.asked[-1].images) > 10 else answer

    images = [*pictures(33), "/nowhere/x.jpg"]
    results = list(connect(at_most_ten, max_in_flight=1).score("pets", images))
    assert [r.score for r in results] == [*range(33), None]
    assert [r.index for r in results] == list(range(34))


def test_one_image_that_is_too_large_for_any_request_fails_alone(connect: Connect) -> None:
    def small(request: httpx.Request) -> httpx.Response:
        body = b"<html>413 Request Entity Too Large</html>"
        large = len(request.read()) > 5000
        return httpx.Response(413, content=body) if large else service(request)

    service = FakeService()
    results = list(connect(small).score("pets", [b"abc", b"x" * 6000, b"abcd"]))
    assert [r.score for r in results] == [3, None, 4]
    assert results[1].error.status == 413


def test_too_large_is_raised_where_no_image_is_at_fault(connect: Connect) -> None:
    with pytest.raises(TooLarge):
        connect(FakeService(problem(413, "too-large"))).create_detector("pets", ["cat", "dog"])


@pytest.mark.parametrize("places", [[0], [0, 1, 2], [1, 0], [0, 0], []])
def test_an_answer_with_other_results_than_the_images_is_unexpected(
    connect: Connect, places: list[int]
) -> None:
    answer = score_answer("hash-1", [1.0] * len(places))
    for place, result in zip(places, answer["results"], strict=True):
        result["index"] = place
    with pytest.raises(UnexpectedAnswer, match="2 items"):
        list(connect(FakeService(httpx.Response(200, json=answer))).score("pets", [b"a", b"b"]))


def test_answers_tell_what_the_results_were_made_under(connect: Connect) -> None:
    service = FakeService()
    answers = list(connect(service, max_in_flight=1).score_answers("pets", pictures(40)))
    assert [a.definition_hash for a in answers] == ["hash-1"] * 2
    assert [a.revision for a in answers] == [7, 7]
    assert [r.index for a in answers for r in a.results] == list(range(40))


def test_an_answer_in_which_every_image_is_bad_is_completed_from_the_detector(connect: Connect) -> None:
    service = FakeService()
    (answer,) = connect(service).score_answers("pets", ["/nowhere/a.jpg"])
    assert (answer.detector, answer.definition_hash, answer.threshold) == ("pets", "hash-1", None)
    assert answer.results[0].error is not None
    assert service.roads == ["GET /v1/detectors/pets"]


# ---- side by side


def test_requests_run_side_by_side_and_their_results_stay_in_order() -> None:
    service = FakeService()
    second_answered = threading.Event()
    running, most = [0], [0]
    lock = threading.Lock()

    def handler(request: httpx.Request) -> httpx.Response:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        answer = service(request)
        first = b'filename="0.jpg"' in request.read()
        if first:
            assert second_answered.wait(30)
        with lock:
            running[0] -= 1
        if b'filename="32.jpg"' in request.read():
            second_answered.set()
        return answer

    with Client(transport=httpx.MockTransport(handler), max_in_flight=3) as client:
        results = list(client.score("pets", pictures(32 * 8)))
    assert [r.score for r in results] == list(range(32 * 8))
    assert 2 <= most[0] <= 3


def test_async_requests_run_side_by_side_and_their_results_stay_in_order() -> None:
    service = FakeService()
    running, most = 0, 0

    async def work() -> list[float | None]:
        second_answered = asyncio.Event()

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal running, most
            running += 1
            most = max(most, running)
            body = await request.aread()
            if b'filename="0.jpg"' in body:
                await asyncio.wait_for(second_answered.wait(), 30)
            if b'filename="32.jpg"' in body:
                second_answered.set()
            running -= 1
            return service(request)

        async with AsyncClient(transport=httpx.MockTransport(handler), max_in_flight=3) as client:
            return [r.score async for r in client.score("pets", pictures(32 * 8))]

    assert asyncio.run(work()) == list(range(32 * 8))
    assert 2 <= most <= 3


def test_async_iterables_are_taken_too() -> None:
    async def camera() -> AsyncIterator[bytes]:
        for size in range(40):
            await asyncio.sleep(0)
            yield b"x" * size

    async def work() -> list[float | None]:
        async with AsyncClient(transport=httpx.MockTransport(FakeService())) as client:
            await client.calibrate("pets", camera())
            return [r.score async for r in client.score("pets", camera())]

    assert asyncio.run(work()) == list(range(40))


def test_leaving_early_ends_the_work_also_where_it_waits_to_try_again() -> None:
    answered = threading.Event()

    def handler(request: httpx.Request) -> httpx.Response:
        if b'filename="0.jpg"' in request.read():
            assert answered.wait(30)
            return service(request)
        answered.set()
        return problem(503, "busy", **{"Retry-After": "60"})

    service = FakeService()
    with Client(transport=httpx.MockTransport(handler), max_in_flight=2) as client:
        results = client.score("pets", pictures(64))
        assert next(results).index == 0
        results.close()  # type: ignore[attr-defined]
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("mcm-client")]
    for thread in workers:
        thread.join(30)
    assert not any(thread.is_alive() for thread in workers)


def test_leaving_early_cancels_the_async_requests() -> None:
    cancelled = []

    async def work() -> None:
        waiting = asyncio.Event()

        async def handler(request: httpx.Request) -> httpx.Response:
            if b'filename="0.jpg"' in await request.aread():
                await waiting.wait()
                return FakeService()(request)
            waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            raise AssertionError

        async with AsyncClient(transport=httpx.MockTransport(handler), max_in_flight=2) as client:
            async with aclosing(client.score("pets", pictures(64))) as results:
                assert (await anext(results)).index == 0
            assert cancelled == [True]

    asyncio.run(work())


def test_the_callers_own_error_ends_the_work_and_reaches_the_caller(connect: Connect) -> None:
    def failing() -> Iterator[bytes]:
        yield b"abc"
        raise LookupError("no more frames")

    with pytest.raises(LookupError, match="no more frames"):
        list(connect(FakeService()).score("pets", failing()))


def test_many_busy_answers_are_waited_out(connect: Connect) -> None:
    service = FakeService(*[busy(429) for _ in range(4)])
    results = connect(service, max_retries=4).score("pets", pictures(128))
    assert [r.score for r in results] == list(range(128))


def test_one_client_serves_many_threads() -> None:
    found: list[list[float | None]] = []

    def work() -> None:
        found.append([result.score for result in client.score("pets", pictures(70))])

    with Client(transport=httpx.MockTransport(FakeService())) as client:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [list(range(70))] * 4


def test_the_loop_stays_free_while_files_are_read() -> None:
    reading, release = threading.Event(), threading.Event()

    class SlowFile(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            reading.set()
            assert release.wait(30)
            return b""

    async def work() -> None:
        async with AsyncClient(transport=httpx.MockTransport(FakeService())) as client:
            scoring = asyncio.ensure_future(anext(client.score("pets", [SlowFile()])))
            while not reading.is_set():
                await asyncio.sleep(0.001)
            release.set()
            assert (await scoring).score == 0

    asyncio.run(work())


# ---- calibration


def test_calibration_scores_any_number_and_posts_once(connect: Connect) -> None:
    service = FakeService()
    images = [*pictures(70), "/nowhere/a.jpg", ("bad.jpg", b"bad")]
    made = connect(service, require_verdict=True).calibrate("pets", iter(images), false_alarm_rate=0.1)
    assert made.n == 70
    assert [(e.index, e.name, e.error.status) for e in made.errors] == [
        (70, "/nowhere/a.jpg", 422),
        (71, "bad.jpg", 415),
    ]
    posted = [asked for asked in service.asked if asked.path.endswith("/calibrate")]
    assert [asked.json for asked in posted] == [
        {"scores": list(map(float, range(70))), "definition_hash": "hash-1", "false_alarm_rate": 0.1}
    ]
    scored = [asked for asked in service.asked if asked.path.endswith("/score")]
    assert {asked.fields["require_verdict"] for asked in scored} == {"false"}


def test_calibration_with_scores_posts_them_as_they_are(connect: Connect) -> None:
    service = FakeService()
    connect(service).calibrate("pets", scores=[0.1, 0.30000000000000004], definition_hash="h", method="paper")
    assert service.roads == ["POST /v1/detectors/pets/calibrate"]
    assert service.asked[0].json["scores"] == [0.1, 0.30000000000000004]
    assert service.asked[0].json["method"] == "paper"


def test_a_detector_that_changes_while_it_is_calibrated_gets_no_threshold(connect: Connect) -> None:
    service = FakeService()

    def changing() -> Iterator[bytes]:
        for i in range(64):
            if i == 40:
                service.definition_hash = "hash-2"
            yield b"x"

    client = connect(service, max_in_flight=1)
    with pytest.raises(DefinitionChanged, match="hash-1, then hash-2") as caught:
        client.calibrate("pets", changing())
    assert isinstance(caught.value, DefinitionMismatch)
    assert not any(road.endswith("/calibrate") for road in service.roads)


def test_calibration_with_bad_images_only_raises_the_first_ones_error(connect: Connect) -> None:
    service = FakeService()
    with pytest.raises(UnsupportedMedia, match="no image"):
        connect(service).calibrate("pets", [b"bad", "/nowhere/a.jpg"])
    assert not any(road.endswith("/calibrate") for road in service.roads)
