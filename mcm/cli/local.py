"""Detectors and scores on this machine, without a server."""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from mcm import wire
from mcm.advice import advise
from mcm.cli.facts import say_mining
from mcm.cli.files import replacing
from mcm.cli.options import encoder_spec
from mcm.cli.output import counting, note
from mcm.cli.rows import Row, blank_row, failed, judged
from mcm.definition import Definition
from mcm.detector import Detector, Verdict
from mcm.detector_file import from_file, parse_detector_file, write_detector_file
from mcm.embeddings import Vectors
from mcm.encoders import Encoder, load_encoder
from mcm.errors import EncoderMismatch, InvalidDetectorFile, InvalidInput
from mcm.evaluation.tables import is_table, open_table
from mcm.pipeline import Embedded, embed_images
from mcm.prompts import build_and_report
from mcm.scores import get_score
from mcm.vocabularies import load_vocabulary


def load(spec: str, device: str, *, bilinear: bool = False) -> Encoder:
    """The encoder, with what a user must know of it said on stderr; `bilinear`: see `load_encoder`.

    Raises:
        McmError: unknown, not installed, or its weights cannot be loaded.
    """
    if sys.stderr.isatty():
        note(f"loading the encoder {spec} ...")
    encoder = load_encoder(spec, device=device, bilinear=bilinear)
    if encoder.note:
        note(f"note: {encoder.note}")
    return encoder


def new_detector(definition: Definition, encoder: Encoder, vocabulary: str | None) -> Detector:
    """A detector of this definition, with what is odd about it, and how negatives were found, on stderr.

    `vocabulary` is the option: where negative words come from.
    """
    for advice in advise(definition, encoder.truncated):
        note(f"warning: {advice.message}")
    words = None if vocabulary is None else load_vocabulary(vocabulary)
    with counting("encoding words") as progress:
        detector, report = build_and_report(definition, encoder, vocabulary=words, progress=progress)
    if report is not None:
        say_mining(report)
    return detector


def parse_detector(path: Path) -> wire.DetectorFile:
    """The content of a detector file.

    Raises:
        InvalidDetectorFile: malformed; names the file.
    """
    try:
        return parse_detector_file(path.read_bytes())
    except InvalidDetectorFile as error:
        raise InvalidDetectorFile(f"{path}: {error}") from error


def read_detector(path: Path) -> tuple[Detector, str]:
    """The detector of a file, and the name of its encoder.

    Raises:
        InvalidDetectorFile: malformed, or it contradicts itself; names the file.
    """
    file = parse_detector(path)
    try:
        return from_file(file), file.encoder.name
    except InvalidDetectorFile as error:
        raise InvalidDetectorFile(f"{path}: {error}") from error


def write_detector(path: Path, detector: Detector, encoder_name: str) -> None:
    """Write the file whole or not at all."""
    with replacing(path) as file:
        file.write(write_detector_file(detector, encoder_name).encode())


def detector_and_encoder(
    path: Path, encoder: str | None, device: str, *, bilinear: bool = False
) -> tuple[Detector, Encoder]:
    """The detector of a file with the encoder that goes with it.

    Raises:
        EncoderMismatch: the encoder that was asked for is not the detector's.
    """
    detector, name = read_detector(path)
    return detector, encoder_of(path, detector, name, encoder, device, bilinear=bilinear)


def encoder_of(
    path: Path, detector: Detector, name: str, encoder: str | None, device: str, *, bilinear: bool = False
) -> Encoder:
    """The encoder of the detector in a file, which names it `name`; see `detector_and_encoder`."""
    loaded = load(encoder_spec(encoder, name), device, bilinear=bilinear)
    if loaded.fingerprint != detector.fingerprint:
        raise EncoderMismatch(
            f"{path} was made with the encoder {name} ({detector.fingerprint:.12}), and {loaded.name} here "
            f"is another ({loaded.fingerprint:.12}): give --encoder {name}, or make the detector again "
            "with mcm detector create --detector-file"
        )
    return loaded


def rows_of_concepts(
    definition: Definition,
    vocabulary: str | None,
    encoder: str | None,
    device: str,
    images: Iterable[Path],
    top_k: int,
    jobs: int | None,
) -> Iterator[Row]:
    """A row for each image, scored against the definition's concepts."""
    loaded = load(encoder_spec(encoder), device)
    detector = new_detector(definition, loaded, vocabulary)
    return rows(detector, loaded.name, lambda: loaded, images, top_k, jobs)


def rows_of_file(
    path: Path, encoder: str | None, device: str, images: Iterable[Path], top_k: int, jobs: int | None
) -> Iterator[Row]:
    """A row for each image, judged by the detector of a file; tables of embeddings need no encoder."""
    detector, name = read_detector(path)

    def load() -> Encoder:
        return encoder_of(path, detector, name, encoder, device)

    return rows(detector, name, load, images, top_k, jobs)


def rows(
    detector: Detector,
    encoder_name: str,
    encoder: Callable[[], Encoder],
    images: Iterable[Path],
    top_k: int,
    jobs: int | None,
) -> Iterator[Row]:
    """A row for each image, in order; of a table of embeddings, a row for each of its images.

    `encoder` loads the encoder, where there are images.

    Raises:
        InvalidInput: a table of scores, or one that is malformed.
        EncoderMismatch: a table of embeddings that another encoder made.
    """
    blank = blank_row(detector, encoder_name)
    for tables, paths in groupby(images, key=is_table):
        if tables:
            for path in paths:
                yield from _rows_of_table(detector, blank, path, top_k)
        else:
            yield from _rows_of_images(detector, blank, encoder(), paths, top_k, jobs)


def _rows_of_images(
    detector: Detector, blank: Row, encoder: Encoder, images: Iterable[Path], top_k: int, jobs: int | None
) -> Iterator[Row]:
    for item in embedded(encoder, images, jobs, patches=get_score(detector.definition.score).local):
        if item.embedding is None:
            yield failed(blank, item.name, str(item.error))
        else:
            yield judged(blank, item.name, _judge(detector, item.embedding, item.patches, top_k))


def _rows_of_table(detector: Detector, blank: Row, path: Path, top_k: int) -> Iterator[Row]:
    table = open_table(path)
    if table.kind != "embedding":
        raise InvalidInput(
            f"{path} is a table of scores: give embeddings, as mcm embed writes them, or images"
        )
    for piece in table.pieces():
        for fingerprint in piece.marks:
            detector.require_encoder(fingerprint)
        yield from (failed(blank, name, error) for name, error in piece.failures)
        for name, verdict in zip(piece.names, detector.judge(piece.values, top_k=top_k), strict=True):
            yield judged(blank, name, verdict)


def embedded(
    encoder: Encoder, images: Iterable[Path], jobs: int | None, *, patches: bool = False
) -> Iterator[Embedded]:
    """The images' embeddings or errors, in order; `jobs` images are decoded at the same time."""
    return embed_images(encoder, images, threads=jobs, patches=patches)


def _judge(detector: Detector, embedding: Vectors, patches: Vectors | None, top_k: int) -> Verdict:
    row = embedding[None]
    local = None if patches is None else detector.local(row, patches[None])
    return detector.judge(row, local=local, top_k=top_k)[0]
