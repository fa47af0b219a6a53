"""A queue in which callers take turns."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)
T = TypeVar("T")


class FairQueue(Generic[C, T]):
    """Items of many callers; each turn takes one item of every caller, whoever brought more or came first.

    This is deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) with items that all cost the same.
    The items of one caller keep their order. Not thread-safe.
    """

    def __init__(self) -> None:
        self._callers: OrderedDict[C, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, caller: C, items: Iterable[T]) -> None:
        """Add items behind the caller's others."""
        line = self._callers.get(caller, deque())
        before = len(line)
        line.extend(items)
        if line:
            self._callers[caller] = line
        self._size += len(line) - before

    def take(self, most: int) -> list[T]:
        """Remove and give up to `most` items, in turn; the next call goes on with the next caller."""
        taken: list[T] = []
        while self._callers and len(taken) < most:
            caller, line = self._callers.popitem(last=False)
            taken.append(line.popleft())
            if line:
                self._callers[caller] = line
        self._size -= len(taken)
        return taken

    def discard(self, caller: C) -> int:
        """Remove all items of a caller; how many they were."""
        gone = len(self._callers.pop(caller, ()))
        self._size -= gone
        return gone

    def drain(self) -> list[T]:
        """Remove and give everything."""
        items = [item for line in self._callers.values() for item in line]
        self._callers.clear()
        self._size = 0
        return items
