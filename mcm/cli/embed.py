"""`mcm embed`: images in, embeddings out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcm.cli import options
from mcm.errors import ClientError
from mcm.names import sayable

if TYPE_CHECKING:
    from mcm.cli.files import Columns
    from mcm.client import Client
    from mcm.evaluation.store import Store
    from mcm.pipeline import Embedded

OUT_SUFFIXES = (".parquet", ".npz", ".jsonl")
PARTS = ".parts"
COLUMNS: "Columns" = {
    "name": "text",
    "embedding": "vector",
    "error": "text",
    "encoder": "text",
    "fingerprint": "text",
}
Rows = Iterator[Mapping[str, Any]]


@dataclass(frozen=True)
class Model:
    """An encoder here or on a server: image files -> embeddings or errors, in order."""

    name: str
    fingerprint: str
    embed: "Callable[[Iterable[Path]], Iterator[Embedded]]"


def embed(
    paths: options.Paths,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A .parquet, .npz or .jsonl file (.npz leaves bad images out)."),
    ],
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.Server = None,
    jobs: options.Jobs = None,
) -> None:
    """Embed images as unit vectors, to be kept and judged later.

    Columns: name, embedding, error, encoder, fingerprint. With .parquet, a run that is stopped goes on where
    it was: until the file is there, what is done is kept beside it, in FILE.parts.

    \b
    mcm embed photos/ --out photos.parquet
    mcm score photos.parquet --concepts cat,dog,bird
    mcm embed photos/ --out photos.npz --server http://127.0.0.1:8000
    """
    from mcm.cli import files, output

    files.check_out(out, OUT_SUFFIXES)
    url = options.server_for(server, encoder=encoder)
    images = options.images_of(paths)
    failures, seen = [], 0
    with _model(url, encoder, device, jobs) as model:
        store = _store_beside(out, model)
        rows = _rows(images, model) if store is None else _resumed(store, images, model)
        with files.rows_file(out, COLUMNS) as write:
            for row in rows:
                seen += 1
                write(row)
                if row["error"] is not None:
                    failures.append((row["name"], row["error"]))
    if store is not None:
        store.delete()
    output.list_failures(failures, seen)
    output.note(f"{seen - len(failures)} embeddings written to {out}")
    if failures:
        raise typer.Exit(1)


@contextmanager
def _model(url: str | None, encoder: str | None, device: str, jobs: int | None) -> Iterator[Model]:
    from mcm.cli import local, remote

    if url is None:
        loaded = local.load(options.encoder_spec(encoder), device)
        yield Model(loaded.name, loaded.fingerprint, lambda images: local.embedded(loaded, images, jobs))
        return
    with remote.connect(url, jobs) as client:
        running = remote.running_model(client)
        yield Model(running.name, running.fingerprint, partial(_remotely, client))


def _remotely(client: "Client", images: Iterable[Path]) -> "Iterator[Embedded]":
    import numpy as np

    from mcm.cli import remote
    from mcm.pipeline import Embedded

    for index, item in enumerate(client.embed(remote.as_text(images))):
        vector = None if item.embedding is None else np.array(item.embedding, dtype=np.float32)
        error = None if item.error is None else ClientError(item.error.detail)
        yield Embedded(index, item.name or "", vector, error)


def _rows(images: Iterable[Path], model: Model) -> Rows:
    from mcm.cli import output

    for item in output.with_progress(model.embed(images), "embedding"):
        vector = None if item.embedding is None else item.embedding.tolist()
        yield _row(item.name, vector, None if item.error is None else str(item.error), model)


def _store_beside(out: Path, model: Model) -> "Store | None":
    """Where embeddings are kept until the file is there; a format other than Parquet has no such place."""
    from mcm.evaluation.store import Store

    if out.suffix.lower() != ".parquet":
        return None
    return Store(out.with_name(out.name + PARTS), model.name, model.fingerprint)


def _resumed(store: "Store", images: Iterable[Path], model: Model) -> Rows:
    """The rows of all images, those of a stopped run first; otherwise by the order of the images."""
    from mcm.cli import output
    from mcm.evaluation.store import image_file, keep_missing

    found = [image_file(path) for path in images]
    once = list(dict.fromkeys(found))
    with output.image_progress() as watch:
        keep_missing(store, once, model.embed, watch=partial(watch, "embedding"))
    places, times = {file.name: i for i, file in enumerate(once)}, Counter(file.name for file in found)
    for piece in store.pieces({file.identity for file in once}):
        rows = [_row(n, vector, None, model) for n, vector in zip(piece.names, piece.embeddings, strict=True)]
        rows += [_row(name, None, error, model) for name, error in piece.failures]
        for row in sorted(rows, key=lambda row: places[row["name"]]):
            yield from repeat(row, times[row["name"]])


def _row(name: str, embedding: object, error: str | None, model: Model) -> dict[str, Any]:
    return {
        "name": sayable(name),
        "embedding": embedding,
        "error": None if error is None else sayable(error),
        "encoder": model.name,
        "fingerprint": model.fingerprint,
    }
