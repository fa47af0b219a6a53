"""Many items as few requests: cut into chunks, and each chunk's answer put back in its items' places.

A chunk's answer has one column of results per detector (one column nearly always); a row is what all
columns say of one item. Rows carry the item's place in the whole work and its own name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from mcm import wire
from mcm.client._calls import Call
from mcm.client._images import Item
from mcm.client.errors import ApiError, UnexpectedAnswer

A = TypeVar("A")
R = TypeVar("R", wire.Result, wire.EmbedResult)

RESULTS: TypeAdapter[list[wire.EmbedResult]] = TypeAdapter(list[wire.EmbedResult])


# ---- cutting


@dataclass(frozen=True)
class Limits:
    """The most that goes into one request; a single item may be larger."""

    items: int
    bytes: int


IMAGES = Limits(32, 32 * 2**20)


@dataclass(frozen=True)
class Chunk:
    """Neighbouring items, of which the first has the place `first` in the whole work."""

    first: int
    items: list[Item]

    @property
    def sound(self) -> list[Item]:
        """The items that can be sent."""
        return [item for item in self.items if item.problem is None]

    def halves(self) -> "list[Chunk]":
        """The same items in two chunks."""
        middle = len(self.items) // 2
        return [Chunk(self.first, self.items[:middle]), Chunk(self.first + middle, self.items[middle:])]


class Chunker:
    """Takes items one by one and gives chunks as they fill."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._first = 0
        self._items: list[Item] = []
        self._bytes = 0

    def add(self, item: Item) -> Iterator[Chunk]:
        """Take an item; gives the chunks that are full with it or had no room for it, at most two."""
        if self._bytes + len(item.data) > self._limits.bytes:
            yield from self.rest()
        self._items.append(item)
        self._bytes += len(item.data)
        if len(self._items) == self._limits.items:
            yield from self.rest()

    def rest(self) -> Iterator[Chunk]:
        """The chunk that has begun, if one has."""
        if self._items:
            chunk = Chunk(self._first, self._items)
            self._first += len(self._items)
            self._items, self._bytes = [], 0
            yield chunk


# ---- answers put in place


@dataclass(frozen=True)
class Piece(Generic[A, R]):
    """Rows of neighbouring items, and the answer that they come from, if the server gave one."""

    answer: A | None
    rows: list[list[R]]


@dataclass(frozen=True)
class Batch(Generic[A, R]):
    """How one kind of work on many items is asked for, and read."""

    call: Callable[[Sequence[Item]], Call[A]]
    columns: Callable[[A], list[list[R]]]
    result: type[R]
    limits: Limits = IMAGES
    width: int = 1

    def answered(self, chunk: Chunk, answer: A) -> Piece[A, R]:
        """The answer's rows in place, with the items' own names, and the items that were not sent between.

        Raises:
            UnexpectedAnswer: not one result for each item that was sent, in order.
        """
        columns = self.columns(answer)
        places = list(range(len(chunk.sound)))
        if len(columns) != self.width or any([r.index for r in column] != places for column in columns):
            raise UnexpectedAnswer(
                f"the answer does not hold one result for each of {len(places)} items, in order"
            )
        given = zip(*columns, strict=True)
        return Piece(answer, [self._row(chunk, place, given) for place in range(len(chunk.items))])

    def unsent(self, chunk: Chunk) -> Piece[A, R]:
        """The rows of a chunk of which nothing can be sent."""
        return Piece(
            None, [self._failed(chunk, place, item.problem) for place, item in enumerate(chunk.items)]
        )

    def refused(self, chunk: Chunk, error: ApiError) -> "Piece[A, R] | list[Chunk]":
        """What becomes of a chunk whose request was refused: rows of errors, or smaller chunks to try.

        Raises:
            ApiError: `error` itself, where it is not about the items.
        """
        problems = _problems_of_each(error, len(chunk.sound))
        if problems is None and error.status == 413:
            if len(chunk.sound) > 1:
                return chunk.halves()
            problems = [error.problem]
        if problems is None:
            raise error
        left = iter(problems)
        rows = [
            self._failed(chunk, place, item.problem or next(left)) for place, item in enumerate(chunk.items)
        ]
        return Piece(None, rows)

    def _row(self, chunk: Chunk, place: int, given: Iterator[tuple[R, ...]]) -> list[R]:
        item = chunk.items[place]
        if item.problem is not None:
            return self._failed(chunk, place, item.problem)
        own = {"index": chunk.first + place, "name": item.name}
        return [result.model_copy(update=own) for result in next(given)]

    def _failed(self, chunk: Chunk, place: int, problem: wire.Problem | None) -> list[R]:
        name = chunk.items[place].name
        return [self.result(index=chunk.first + place, name=name, error=problem)] * self.width


def _problems_of_each(error: ApiError, count: int) -> list[wire.Problem] | None:
    """The problem of each item, where the server said that all of them are bad."""
    extensions = error.problem.model_extra or {}
    try:
        results = RESULTS.validate_python(extensions.get("results"))
    except ValidationError:
        return None
    problems = [result.error for result in results if result.error is not None]
    return problems if len(problems) == len(results) == count else None
