"""Turns of callers, whatever they bring."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.engine.fair_queue import FairQueue

Loads = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 12))


def filled(loads: dict[str, int]) -> FairQueue[str, tuple[str, int]]:
    queue: FairQueue[str, tuple[str, int]] = FairQueue()
    for caller, n in loads.items():
        queue.put(caller, [(caller, i) for i in range(n)])
    return queue


def test_every_caller_gets_one_item_a_turn() -> None:
    queue = filled({"big": 256, "small": 1, "two": 2})
    assert queue.take(6) == [("big", 0), ("small", 0), ("two", 0), ("big", 1), ("two", 1), ("big", 2)]
    assert len(queue) == 253


def test_the_next_take_goes_on_where_the_last_one_ended() -> None:
    queue = filled({"a": 3, "b": 3})
    assert [queue.take(1)[0][0] for _ in range(6)] == ["a", "b", "a", "b", "a", "b"]


def test_a_late_comer_waits_for_one_turn_only() -> None:
    queue = filled({"a": 100, "b": 100})
    queue.take(10)
    queue.put("late", [("late", 0)])
    assert ("late", 0) in queue.take(3)


@given(Loads, st.lists(st.integers(1, 7), max_size=200))
def test_nothing_is_lost_doubled_or_reordered(loads: dict[str, int], takes: list[int]) -> None:
    queue = filled(loads)
    taken = [item for n in takes for item in queue.take(n)] + queue.drain()
    assert Counter(taken) == Counter((caller, i) for caller, n in loads.items() for i in range(n))
    for caller, n in loads.items():
        assert [i for who, i in taken if who == caller] == list(range(n))
    assert len(queue) == 0
    assert queue.take(5) == []


@given(Loads, st.integers(1, 60))
def test_no_waiting_caller_is_more_than_one_item_behind_another(loads: dict[str, int], most: int) -> None:
    queue = filled(loads)
    served = Counter(caller for caller, _ in queue.take(most))
    waiting = [served[caller] for caller, n in loads.items() if served[caller] < n]
    if waiting:
        assert max(served.values()) - min(waiting) <= 1


@given(Loads, st.sampled_from("abcdefgh"))
def test_discard_removes_one_caller_only(loads: dict[str, int], leaver: str) -> None:
    queue = filled(loads)
    assert queue.discard(leaver) == loads.get(leaver, 0)
    assert len(queue) == sum(n for caller, n in loads.items() if caller != leaver)
    assert leaver not in {caller for caller, _ in queue.drain()}


def test_an_empty_put_leaves_no_caller_behind() -> None:
    queue: FairQueue[str, int] = FairQueue()
    queue.put("a", [])
    assert queue.take(3) == []
