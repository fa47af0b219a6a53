"""Threads, processes and sudden death."""

import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.store import NameTaken, Store, StoredDetector
from tests.app.store import processes
from tests.app.store.processes import append_score, large_matrix
from tests.app.store.samples import SPAWN, create, load


def test_of_two_creates_of_one_name_one_wins(store: Store, second: Store) -> None:
    for number in range(10):
        together = threading.Barrier(2)

        def attempt(
            server: Store, name: str = f"d{number}", together: threading.Barrier = together
        ) -> StoredDetector | None:
            together.wait()
            try:
                return create(server, name)
            except NameTaken:
                return None

        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(attempt, [store, second]))
        assert sum(outcome is not None for outcome in outcomes) == 1
    assert store.count() == 10


def test_fifty_writers_and_readers_in_three_processes_lose_nothing(store: Store, url: str) -> None:
    create(store)
    scores = [float(i) for i in range(200)]
    servers = []
    for start in (100, 150):
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(
            target=processes.append_scores, args=(url, "pets", scores[start : start + 50], sender)
        )
        process.start()
        servers.append((process, receiver))

    def read(_: int) -> None:
        for _ in range(10):
            stored = load(store)
            assert stored.revision <= (store.revision("pets") or 0)
            assert store.page(10)[0][0].name == "pets"

    with ThreadPoolExecutor(50) as threads:
        writers = [threads.submit(append_score, store, "pets", score) for score in scores[:100]]
        readers = [threads.submit(read, i) for i in range(25)]
        revisions = [writer.result() for writer in writers]
        for reader in readers:
            reader.result()
    for process, receiver in servers:
        told = receiver.recv()
        assert isinstance(told, list), told
        revisions += told
        process.join()
    assert sorted(load(store).calibration.scores) == scores
    assert len(set(revisions)) == 200
    assert max(revisions) == store.revision("pets")


def test_servers_that_start_together_on_a_new_file_all_find_the_tables(sqlite_url: str) -> None:
    started = []
    for _ in range(4):
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=processes.append_scores, args=(sqlite_url, "x", [], sender))
        process.start()
        started.append((process, receiver))
    for process, receiver in started:
        assert receiver.recv() == []
        process.join()


def test_a_server_that_starts_while_another_writes_the_new_file_waits(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = Store(sqlite_url)
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(store.migrate)
        with pytest.raises(TimeoutError):
            started.result(timeout=0.3)
        other.execute("COMMIT")
        started.result()
    assert store.count() == 0
    other.close()
    store.close()


def test_a_detector_is_whole_or_absent_after_kill_9_at_any_moment(store: Store, url: str) -> None:
    chance = random.Random(0)
    first = 0
    for _ in range(10):
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=processes.create_for_ever, args=(url, first, sender))
        process.start()
        for _ in range(chance.randint(1, 5)):
            last = receiver.recv()
        time.sleep(chance.random() * 0.02)  # somewhere in the next create
        process.kill()
        process.join()
        assert store.count() >= last + 1
        first = store.count()
    names = []
    after = None
    while True:
        page, after = store.page(100, after)
        names += [summary.name for summary in page]
        if after is None:
            break
    assert sorted(names) == sorted(f"d{number}" for number in range(first))
    for number in range(first):
        stored = load(store, name=f"d{number}")
        assert stored.matrix is not None
        assert stored.matrix.tobytes() == large_matrix(number).tobytes()
        assert stored.calibration.scores.tolist() == [float(number)] * 1000
