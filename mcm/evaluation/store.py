"""Embeddings that stay when a run is stopped: a folder of Parquet files, one for every few hundred images.

A row belongs to a file by name, size and time of change, so a changed file is embedded again and a new one
is added. Images with an error are tried again by every run: the reason may be gone.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcm.embeddings import Vectors
from mcm.errors import InvalidInput, MissingExtra
from mcm.names import sayable
from mcm.pipeline import Embedded
from mcm.scores import Floats

Local = Callable[[Embedded], list[float]]

ROWS = 256  # images of one part, and so the most that a killed run loses
UNFINISHED = ".part.tmp"  # the end of the name of what a killed run was writing


@dataclass(frozen=True)
class ImageFile:
    """An image file as it was found: `name` is its path below the folder, or as it was given."""

    name: str
    path: Path
    size: int
    mtime_ns: int

    @property
    def identity(self) -> int:
        """Equal for the same unchanged file, within this process."""
        return hash((self.name, self.size, self.mtime_ns))


@dataclass(frozen=True, eq=False)
class StoredPiece:
    """Some rows: names, embeddings (n, d), and (name, error) of images that could not be used.

    `local` (n, l): what the patches gave, in the order in which it was kept; l may be 0.
    """

    names: list[str]
    embeddings: Vectors
    local: Floats
    failures: list[tuple[str, str]]


def image_file(path: Path, folder: Path | None = None) -> ImageFile:
    """The file as it is now; one that cannot be looked at has size -1 and fails when it is read."""
    name = sayable(str(path if folder is None else path.relative_to(folder)))
    try:
        found = path.stat()
    except OSError:
        return ImageFile(name, path, -1, -1)
    return ImageFile(name, path, found.st_size, found.st_mtime_ns)


class Store:
    """The parts in one folder, all made by the encoder of one fingerprint.

    Raises:
        InvalidInput: the folder holds the embeddings of another encoder.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, folder: Path, encoder_name: str, fingerprint: str) -> None:
        self.folder, self._encoder_name, self._fingerprint = folder, encoder_name, fingerprint
        self._pa, self._pq = _pyarrow()
        self._schema = self._pa.schema(
            [
                ("name", self._pa.string()),
                ("embedding", self._pa.list_(self._pa.field("item", self._pa.float32(), nullable=False))),
                ("error", self._pa.string()),
                ("encoder", self._pa.string()),
                ("fingerprint", self._pa.string()),
                ("size", self._pa.int64()),
                ("mtime_ns", self._pa.int64()),
                ("local", self._pa.list_(self._pa.float64())),
            ]
        )
        folder.mkdir(parents=True, exist_ok=True)
        if first := next(iter(self._parts()), None):
            kept = self._pq.read_table(first, columns=["fingerprint"]).column(0)[0].as_py()
            if kept != fingerprint:
                raise InvalidInput(
                    f"{folder} holds embeddings of another encoder ({kept:.12}, not {fingerprint:.12}): "
                    "delete it, or name another place"
                )

    def done(self) -> set[int]:
        """The identities of the files that have an embedding."""
        found: set[int] = set()
        for part in self._parts():
            table = self._pq.read_table(part, columns=["name", "size", "mtime_ns", "error"])
            rows = zip(*(table.column(i).to_pylist() for i in range(4)), strict=True)
            found.update(hash((name, size, mtime)) for name, size, mtime, error in rows if error is None)
        return found

    def add(
        self, files: Iterable[tuple[ImageFile, Embedded]], local: Local | None = None
    ) -> Generator[Embedded, None, None]:
        """Keep the embeddings as they come and pass them on; also those at hand when the run is stopped.

        `local` gives the numbers that are kept beside the embedding of an image.
        """
        gathered: list[dict[str, Any]] = []
        try:
            for file, item in files:
                gathered.append(self._row(file, item, local))
                if len(gathered) == ROWS:
                    self._write(gathered)
                    gathered = []
                yield item
        finally:
            if gathered:
                self._write(gathered)

    def pieces(self, wanted: Collection[int]) -> Iterator[StoredPiece]:
        """The rows of the wanted files, each once, a part at a time; errors only where no embedding is."""
        done, told = self.done(), set[int]()
        for part in self._parts():
            table = self._pq.read_table(part)
            columns = (table.column(name).to_pylist() for name in ("name", "size", "mtime_ns", "error"))
            keys = [(hash((n, s, t)), n, error) for n, s, t, error in zip(*columns, strict=True)]
            good, failures = [], []
            for i, (key, name, error) in enumerate(keys):
                if key not in wanted or key in told or (error is not None and key in done):
                    continue
                told.add(key)
                if error is None:
                    good.append(i)
                else:
                    failures.append((name, error))
            kept = table.take(np.array(good, dtype=np.int64))
            yield StoredPiece(
                [keys[i][1] for i in good],
                _matrix(kept, "embedding", np.float32),
                _matrix(kept, "local", np.float64),
                failures,
            )

    def delete(self) -> None:
        """Delete the parts, and the folder if nothing else is in it."""
        for file in (*self._parts(), *self.folder.glob(f"*{UNFINISHED}")):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _row(self, file: ImageFile, item: Embedded, local: Local | None) -> dict[str, Any]:
        return {
            "name": file.name,
            "embedding": item.embedding,
            "error": None if item.error is None else sayable(str(item.error)),
            "encoder": self._encoder_name,
            "fingerprint": self._fingerprint,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "local": [] if local is None or item.embedding is None else local(item),
        }

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """A part, whole or not at all; two runs at once do not write the same one."""
        columns = {name: [row[name] for row in rows] for name in self._schema.names}
        table = self._pa.table(columns, schema=self._schema)
        handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=UNFINISHED)
        try:
            with os.fdopen(handle, "wb") as file:
                self._pq.write_table(table, file)
            number = 1 + max((int(part.stem.split("-")[1]) for part in self._parts()), default=0)
            os.replace(temporary, self.folder / f"part-{number:06}-{os.getpid()}.parquet")
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def keep_missing(
    store: Store,
    files: Sequence[ImageFile],
    embed: Callable[[Iterable[Path]], Iterator[Embedded]],
    *,
    local: Local | None = None,
    watch: Callable[[int, int], None],
) -> None:
    """Embed and keep the files that the store does not have; `watch` is told how many are done, of how many.

    `embed` gives an embedding or error for each path, in order; `local`: see `Store.add`.
    """
    done = store.done()
    missing = [file for file in files if file.identity not in done]
    seen = len(files) - len(missing)
    watch(seen, len(files))
    embedded = embed(file.path for file in missing)
    with closing(store.add(zip(missing, embedded, strict=True), local)) as kept:
        for _ in kept:
            seen += 1
            watch(seen, len(files))


def _matrix(table: Any, column: str, dtype: type) -> NDArray[Any]:
    """A column of lists of one length as (n, length)."""
    if not len(table):
        return np.empty((0, 0), dtype=dtype)
    numbers = table.column(column).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=dtype).reshape(len(table), -1)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("eval", "keeping embeddings") from error
    return pyarrow, pyarrow.parquet
