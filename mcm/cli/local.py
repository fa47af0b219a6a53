"""Detectors and scores on this machine, without a server."""

import sys
from collections.abc import Iterable, Iterator
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
from mcm.errors import EncoderMismatch, InvalidDetectorFile
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
    loaded = load(encoder_spec(encoder, name), device, bilinear=bilinear)
    if loaded.fingerprint != detector.fingerprint:
        raise EncoderMismatch(
            f"{path} was made with the encoder {name} ({detector.fingerprint:.12}), and {loaded.name} here "
            f"is another ({loaded.fingerprint:.12}): give --encoder {name}, or make the detector again "
            "with mcm detector create --detector-file"
        )
    return detector, loaded


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
    return rows(new_detector(definition, loaded, vocabulary), loaded, images, top_k, jobs)


def rows_of_file(
    path: Path, encoder: str | None, device: str, images: Iterable[Path], top_k: int, jobs: int | None
) -> Iterator[Row]:
    """A row for each image, judged by the detector of a file."""
    detector, loaded = detector_and_encoder(path, encoder, device)
    return rows(detector, loaded, images, top_k, jobs)


def rows(
    detector: Detector, encoder: Encoder, images: Iterable[Path], top_k: int, jobs: int | None
) -> Iterator[Row]:
    """A row for each image, in order."""
    blank = blank_row(detector, encoder.name)
    for item in embedded(encoder, images, jobs, patches=get_score(detector.definition.score).local):
        if item.embedding is None:
            yield failed(blank, item.name, str(item.error))
        else:
            yield judged(blank, item.name, _judge(detector, item.embedding, item.patches, top_k))


def embedded(
    encoder: Encoder, images: Iterable[Path], jobs: int | None, *, patches: bool = False
) -> Iterator[Embedded]:
    """The images' embeddings or errors, in order; `jobs` images are decoded at the same time."""
    return embed_images(encoder, images, threads=jobs, patches=patches)


def _judge(detector: Detector, embedding: Vectors, patches: Vectors | None, top_k: int) -> Verdict:
    row = embedding[None]
    local = None if patches is None else detector.local(row, patches[None])
    return detector.judge(row, local=local, top_k=top_k)[0]
