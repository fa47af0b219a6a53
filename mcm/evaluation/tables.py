"""Tables of embeddings or of scores, read piece by piece: Parquet, CSV and JSON lines.

A table has a column `score` (a number, higher = more in-distribution), or `embedding` (a list of numbers;
in CSV as JSON text), or, in CSV, a column for each number of the embedding. The other columns of
`mcm score` and `mcm embed` may be there: `name`, `error`, `encoder`, `fingerprint`, `definition_hash`.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mcm.errors import InvalidInput, MissingExtra
from mcm.names import sayable

Kind = Literal["score", "embedding"]
Rows = Iterator[Mapping[str, Any]]
_Numbered = list[tuple[int, Mapping[str, Any]]]

SUFFIXES = (".parquet", ".csv", ".jsonl")
PIECE = 8192  # rows in memory at once
_TEXTS = ("name", "error", "encoder", "fingerprint", "definition_hash", "score_name")


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows: their names, and scores (n,) float64 or embeddings (n, d) float32, finite and not zero.

    `failures` are (name, error) of the other rows. `marks` says under what the numbers were made: the
    fingerprints of embeddings, the definition hashes of scores; empty where the table does not tell.
    """

    names: list[str]
    values: NDArray[Any]
    failures: list[tuple[str, str]]
    marks: frozenset[str]


@dataclass(frozen=True)
class Table:
    """A file of scores or of embeddings, and its columns."""

    path: Path
    kind: Kind
    columns: tuple[str, ...]

    def pieces(self) -> Iterator[Piece]:
        """The rows, at most PIECE at a time, in order.

        Raises:
            InvalidInput: a value that is no number, or embeddings of different lengths; names the row.
        """
        pieces = _parquet_pieces(self) if self.path.suffix.lower() == ".parquet" else _text_pieces(self)
        return map(_without_unsound, pieces) if self.kind == "embedding" else pieces

    def encoder_name(self) -> str | None:
        """The encoder that the first row names, or None."""
        if "encoder" not in self.columns:
            return None
        if self.path.suffix.lower() == ".parquet":
            batch = next(_parquet_file(self.path).iter_batches(1, columns=["encoder"]), None)
            name = batch.column(0)[0].as_py() if batch is not None and len(batch) else None
        else:
            name = next(_READERS[self.path.suffix.lower()](self.path), {}).get("encoder")
        return name or None


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table."""
    return path.suffix.lower() in SUFFIXES


def open_table(path: Path) -> Table:
    """The table in a file, told by its columns.

    Raises:
        InvalidInput: another format, no such file, or columns with neither scores nor embeddings.
        MissingExtra: a Parquet file without pyarrow.
    """
    if not path.exists():
        raise InvalidInput(f"there is no {path}")
    if not is_table(path):
        raise InvalidInput(
            f"{path} is no folder of images and no table: let its name end in {', '.join(SUFFIXES)}"
        )
    columns = _columns(path)
    if "score" in columns:
        return Table(path, "score", columns)
    if "embedding" in columns or (path.suffix.lower() == ".csv" and _number_columns(columns)):
        return Table(path, "embedding", columns)
    found = ", ".join(columns[:10]) or "none"
    raise InvalidInput(f"{path} has neither a column `score` nor `embedding`; its columns: {found}")


def _columns(path: Path) -> tuple[str, ...]:
    match path.suffix.lower():
        case ".parquet":
            return tuple(_parquet_file(path).schema_arrow.names)
        case ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return tuple(next(csv.reader(file), ()))
        case _:
            return tuple(next(_jsonl_rows(path), {}))


def _number_columns(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in _TEXTS]


def _csv_rows(path: Path) -> Rows:
    csv.field_size_limit(2**24)  # an embedding as JSON is longer than the 128 kB that Python allows
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not a CSV file in UTF-8: {error}") from error


def _jsonl_rows(path: Path) -> Rows:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{path}, line {number}, is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InvalidInput(f"{path}, line {number}, must be an object with a score or an embedding")
            yield row


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows}


def _text_pieces(table: Table) -> Iterator[Piece]:
    rows, done = _READERS[table.path.suffix.lower()](table.path), 0
    while gathered := list(islice(rows, PIECE)):
        yield _piece(table, gathered, done)
        done += len(gathered)


def _without_unsound(piece: Piece) -> Piece:
    """Embeddings that point nowhere fail alone."""
    squares = np.einsum("ij,ij->i", piece.values, piece.values)
    sound = np.isfinite(squares) & (squares > 0)  # NaN is not
    if sound.all():
        return piece
    bad = [(piece.names[i], "the embedding is zero or not finite") for i in np.flatnonzero(~sound)]
    names = [piece.names[i] for i in np.flatnonzero(sound)]
    return Piece(names, piece.values[sound], piece.failures + bad, piece.marks)


def _piece(table: Table, rows: list[Mapping[str, Any]], done: int) -> Piece:
    numbered = [(done + i, row) for i, row in enumerate(rows, 1)]
    good = [(number, row) for number, row in numbered if not row.get("error")]
    mark = "fingerprint" if table.kind == "embedding" else "definition_hash"
    return Piece(
        names=[_name(row.get("name"), number) for number, row in good],
        values=_as_scores(table, good) if table.kind == "score" else _as_matrix(table, good),
        failures=[
            (_name(row.get("name"), n), sayable(str(row["error"]))) for n, row in numbered if row.get("error")
        ],
        marks=frozenset(str(row[mark]) for _, row in good if row.get(mark)),
    )


def _as_scores(table: Table, rows: _Numbered) -> NDArray[np.float64]:
    return np.array([_score(table, row, number) for number, row in rows], dtype=np.float64)


def _as_matrix(table: Table, rows: _Numbered) -> NDArray[np.float32]:
    vectors = [_embedding(table, row, number) for number, row in rows]
    if len({vector.size for vector in vectors}) > 1:
        raise InvalidInput(f"{table.path} has embeddings of different lengths")
    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def _score(table: Table, row: Mapping[str, Any], number: int) -> float:
    try:
        return float(row["score"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{table.path}, row {number}: the score is no number") from error


def _embedding(table: Table, row: Mapping[str, Any], number: int) -> NDArray[np.float32]:
    try:
        if "embedding" not in row:
            return np.array([float(row[name]) for name in _number_columns(table.columns)], dtype=np.float32)
        given = row["embedding"]
        vector = np.array(json.loads(given) if isinstance(given, str) else given, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"{table.path}, row {number}: the embedding is no list of numbers") from error
    if vector.ndim != 1:
        raise InvalidInput(f"{table.path}, row {number}: the embedding is no list of numbers")
    return vector


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("eval", "reading Parquet files") from error
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # it would keep all that was read until the end
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"{path} is not a Parquet file: {error}") from error


def _parquet_pieces(table: Table) -> Iterator[Piece]:
    mark = "fingerprint" if table.kind == "embedding" else "definition_hash"
    wanted = [name for name in ("name", "error", mark, table.kind) if name in table.columns]
    done = 0
    for batch in _parquet_file(table.path).iter_batches(PIECE, columns=wanted):
        valid = np.asarray(batch.column(table.kind).is_valid())
        bad = np.flatnonzero(~valid)
        good = batch.filter(valid) if bad.size else batch  # a filter copies the numbers
        names = batch.column("name").to_pylist() if "name" in wanted else [None] * len(batch)
        errors = batch.column("error") if "error" in wanted else None
        marks = good.column(mark).unique().to_pylist() if mark in wanted else []
        named = [_name(name, done + i) for i, name in enumerate(names, 1)]
        yield Piece(
            names=[named[i] for i in np.flatnonzero(valid)] if bad.size else named,
            values=_parquet_values(table, good.column(table.kind)),
            failures=[(named[i], str(errors[i].as_py() if errors else "there is no value")) for i in bad],
            marks=frozenset(str(found) for found in marks if found),
        )
        done += len(batch)


def _name(given: object, number: int) -> str:
    return f"row {number}" if given is None or given == "" else sayable(str(given))


def _parquet_values(table: Table, column: Any) -> NDArray[Any]:
    """A column without nulls as scores (n,) or embeddings (n, d), the latter without a copy."""
    import pyarrow as pa

    try:
        if table.kind == "score":
            return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        numbers = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
        lengths = np.asarray(column.value_lengths())
    except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise InvalidInput(f"{table.path}: the column `{table.kind}` does not hold numbers") from error
    if lengths.size and (lengths != lengths[0]).any():
        raise InvalidInput(f"{table.path} has embeddings of different lengths")
    return numbers.reshape(len(column), -1) if len(column) else np.empty((0, 0), dtype=np.float32)
