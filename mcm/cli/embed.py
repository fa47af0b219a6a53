"""`mcm embed`: images in, embeddings out."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcm.cli import options

if TYPE_CHECKING:
    from mcm.cli.files import Columns

OUT_SUFFIXES = (".parquet", ".npz", ".jsonl")
COLUMNS: "Columns" = {
    "name": "text",
    "embedding": "vector",
    "error": "text",
    "encoder": "text",
    "fingerprint": "text",
}


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

    Columns: name, embedding, error, encoder, fingerprint.

    \b
    mcm embed photos/ --out photos.parquet
    mcm embed photos/ --out photos.npz --server http://127.0.0.1:8000
    """
    from mcm.cli import files, output

    files.check_out(out, OUT_SUFFIXES)
    url = options.server_for(server, encoder=encoder)
    images = options.images_of(paths)
    rows = _local_rows(images, encoder, device, jobs) if url is None else _remote_rows(url, images, jobs)
    failures, seen = [], 0
    with files.rows_file(out, COLUMNS) as write:
        for row in output.with_progress(rows, "embedding"):
            seen += 1
            write(row)
            if row["error"] is not None:
                failures.append((row["name"], row["error"]))
    output.list_failures(failures, seen)
    output.note(f"{seen - len(failures)} embeddings written to {out}")
    if failures:
        raise typer.Exit(1)


def _local_rows(
    images: Iterator[Path], encoder: str | None, device: str, jobs: int | None
) -> Iterator[dict[str, Any]]:
    from mcm.cli import local

    loaded = local.load(options.encoder_spec(encoder), device)
    for item in local.embedded(loaded, images, jobs):
        vector = None if item.embedding is None else item.embedding.tolist()
        error = None if item.error is None else str(item.error)
        yield _row(item.name, vector, error, loaded.name, loaded.fingerprint)


def _remote_rows(url: str, images: Iterator[Path], jobs: int | None) -> Iterator[dict[str, Any]]:
    from mcm.cli import remote

    with remote.connect(url, jobs) as client:
        model = remote.running_model(client)
        for item in client.embed(remote.as_text(images)):
            error = None if item.error is None else item.error.detail
            yield _row(item.name or "", item.embedding, error, model.name, model.fingerprint)


def _row(
    name: str, embedding: list[float] | None, error: str | None, encoder: str, fingerprint: str
) -> dict[str, Any]:
    from mcm.cli.rows import sayable

    return {
        "name": sayable(name),
        "embedding": embedding,
        "error": None if error is None else sayable(error),
        "encoder": encoder,
        "fingerprint": fingerprint,
    }
