"""Result files: written row by row as results come, and there only once they are whole."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from mcm.errors import InvalidInput, MissingExtra

Kind = Literal["text", "number", "flag", "vector", "matches"]
Columns = Mapping[str, Kind]
Row = Mapping[str, Any]
Write = Callable[[Row], None]

PARQUET_ROWS = 1024  # rows gathered before they are written as one group


def check_out(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse, before any work, a result file that could not be written after it.

    Raises:
        InvalidInput: unknown suffix, or no such folder.
        MissingExtra: .parquet without pyarrow.
    """
    if path.suffix.lower() not in suffixes:
        raise InvalidInput(f"cannot tell the format of {path}: let its name end in {', '.join(suffixes)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidInput(f"cannot write {path}: it is a folder, or its folder does not exist")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


@contextmanager
def rows_file(path: Path, columns: Columns) -> Iterator[Write]:
    """A file of rows in the format of its suffix; the file appears when the block ends without error."""
    with replacing(path) as file, WRITERS[path.suffix.lower()](file, columns) as write:
        yield write


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends, and leaves no trace if it fails."""
    if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()
    part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _csv(file: IO[bytes], columns: Columns) -> Iterator[Write]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns)

    def cell(value: Any, kind: Kind) -> Any:
        as_json = kind in ("matches", "flag") and value is not None
        return json.dumps(value, ensure_ascii=False) if as_json else value

    yield lambda row: writer.writerow([cell(row[name], kind) for name, kind in columns.items()])
    text.detach()


@contextmanager
def _jsonl(file: IO[bytes], columns: Columns) -> Iterator[Write]:
    def write(row: Row) -> None:
        line = json.dumps({name: row[name] for name in columns}, ensure_ascii=False)
        file.write(line.encode() + b"\n")

    yield write


@contextmanager
def _parquet(file: IO[bytes], columns: Columns) -> Iterator[Write]:
    pa, pq = _pyarrow()
    match = pa.struct([("concept", pa.string()), ("similarity", pa.float64()), ("probability", pa.float64())])
    types = {
        "text": pa.string(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "vector": pa.list_(pa.field("item", pa.float32(), nullable=False)),  # a third faster to read
        "matches": pa.list_(match),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    gathered: list[Row] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(gathered, schema=schema))
        gathered.clear()

    def write(row: Row) -> None:
        gathered.append(row)
        if len(gathered) == PARQUET_ROWS:
            flush()

    repeating = [name for name, kind in columns.items() if kind == "text"]
    with pq.ParquetWriter(file, schema, use_dictionary=repeating) as writer:
        yield write
        flush()


@contextmanager
def _npz(file: IO[bytes], columns: Columns) -> Iterator[Write]:
    """An array a column; rows with an error are left out, for arrays have no null."""
    gathered: list[Row] = []
    yield gathered.append
    good = [row for row in gathered if row["error"] is None]
    arrays: dict[str, Any] = {
        name: np.array([row[name] for row in good], dtype=np.float32 if kind == "vector" else np.str_)
        for name, kind in columns.items()
        if name != "error"
    }
    np.savez(file, **arrays)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("eval", "writing Parquet files") from error
    return pyarrow, pyarrow.parquet


WRITERS: dict[str, Callable[[IO[bytes], Columns], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".npz": _npz,
}
