"""Options that several commands share, and what they mean."""

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from mcm.definition import Concept, Definition, define
from mcm.errors import InvalidInput
from mcm.fdr import DEFAULT_METHOD as DEFAULT_FDR_METHOD
from mcm.fdr import METHODS as FDR_METHODS
from mcm.negatives import NegativesChoice
from mcm.scores import DEFAULT_LOCAL_WEIGHT, SCORES
from mcm.thresholds import DEFAULT_CONFIDENCE, DEFAULT_FALSE_ALARM_RATE, DEFAULT_METHOD, METHODS

DEFAULT_SERVER = "http://127.0.0.1:8000"
DEFAULT_ENCODER = "builtin"

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        exists=True,
        help="Images, and folders of images; or, but for mcm embed, a table of embeddings that it wrote.",
    ),
]
Concepts = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Class names that your system knows, between commas.")
]
ConceptsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Class names, one a line (# starts a comment line); or a JSON list of names and of objects "
        "with name and prompts.",
    ),
]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help='Prompt with {} for the class name; default "a photo of a {}". Repeatable, then averaged.',
    ),
]
ScoreName = Annotated[
    str | None,
    typer.Option("--score", metavar="NAME", help=f"{', '.join(SCORES)}. Default: mcm."),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", help="Softmax temperature; default 1, as in the paper (neglabel: 0.01)."),
]
LocalWeight = Annotated[
    float | None,
    typer.Option(metavar="W", help=f"For gl-mcm: weight of the best patch; default {DEFAULT_LOCAL_WEIGHT}."),
]
DetectorFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="A detector as a file: no server is needed."),
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", metavar="NAME", help="A detector on the server.")
]
Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Encoder to run here: builtin, or e.g. ViT-B-16/openai. Default: MCM_ENCODER, else the one that "
        "the detector file names, else builtin.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Let this server do the work. Default: MCM_SERVER. Its key: MCM_API_KEY.",
    ),
]
AnyServer = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help=f"The server. Default: MCM_SERVER, else {DEFAULT_SERVER}. Its key: MCM_API_KEY."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, max=256, metavar="N", help="Images decoded, or requests sent, at the same time."),
]
KnownPaths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH", exists=True, help="In-distribution images, of the known classes, and folders of them."
    ),
]
Method = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{', '.join(METHODS)}. Default: {DEFAULT_METHOD}."),
]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(
        metavar="A",
        help=f"Share of in-distribution images that may be called OOD. Default: {DEFAULT_FALSE_ALARM_RATE}.",
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(metavar="C", help=f"Confidence of --method pac. Default: {DEFAULT_CONFIDENCE}."),
]
PerConcept = Annotated[
    bool | None,
    typer.Option(
        "--per-concept/--all-together",
        help="Give each concept that has enough images a threshold of its own. Default: all together, or, "
        "with --append or --stored, as before.",
        show_default=False,
    ),
]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        help="Add the images to the calibration in force; options left out stay as they are there.",
    ),
]
Stored = Annotated[
    bool, typer.Option("--stored", help="Calibrate again with the scores that the detector has.")
]
Fdr = Annotated[
    float | None,
    typer.Option(
        metavar="Q",
        help="Judge all images together: of those called a discovery, on average at most a share Q is "
        "in-distribution. Needs a calibrated detector.",
    ),
]
FdrMethod = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{', '.join(FDR_METHODS)}. Default: {DEFAULT_FDR_METHOD}."),
]
ManualThreshold = Annotated[
    float | None,
    typer.Option("--threshold", metavar="X", help="Set this threshold by hand instead, without images."),
]
TopK = Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Concepts to name for each image.")]
Threshold = Annotated[
    float | None, typer.Option(metavar="X", help="Call an image OOD when its score is below X.")
]
ScoresOut = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write all columns to a .csv, .jsonl or .parquet file, not the table."),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON; - is stdout.")]


def encoder_spec(option: str | None, named_by_file: str | None = None) -> str:
    """The encoder to run here: the option's, MCM_ENCODER's, the detector file's, or the built-in one."""
    return option or os.environ.get("MCM_ENCODER") or named_by_file or DEFAULT_ENCODER


def any_server(option: str | None) -> str:
    """The server of a command that needs one: the option's, MCM_SERVER's, or the one on this machine."""
    return option or os.environ.get("MCM_SERVER") or DEFAULT_SERVER


def server_for(
    server: str | None,
    *,
    detector: str | None = None,
    detector_file: Path | None = None,
    encoder: str | None = None,
) -> str | None:
    """The server to use, or None for this machine. A detector file is used here, whatever MCM_SERVER says.

    Raises:
        InvalidInput: the options contradict each other.
    """
    if detector_file is not None:
        if server is not None:
            raise InvalidInput(
                "--detector-file is used on this machine, not on a server: leave out --server, or run "
                f"mcm detector import {detector_file} and use --detector NAME"
            )
        return None
    url = server or os.environ.get("MCM_SERVER") or None
    if detector is not None and url is None:
        raise InvalidInput(
            f"--detector {detector} lives on a server: give --server URL or set MCM_SERVER; "
            "on this machine a detector is a file, --detector-file"
        )
    if url is not None and encoder is not None:
        raise InvalidInput(
            f"--encoder chooses the encoder of this machine, and the server {url} has its own: "
            "leave out one of the two"
        )
    return url


def images_of(paths: list[Path], url: str | None = None) -> Iterator[Path]:
    """The images in files and folders, walked as they are taken; tables of embeddings count as images.

    Raises:
        InvalidInput: there is not one, or there is a table and the server at `url` is to do the work.
    """
    from mcm.evaluation.tables import is_table
    from mcm.pipeline import image_files

    if url is not None and (table := next(filter(is_table, paths), None)):
        raise InvalidInput(
            f"{table} is a table of embeddings, which is used on this machine, not sent to {url}: leave out "
            "--server and MCM_SERVER, and give --detector-file or concepts"
        )
    images = iter(image_files(paths))
    first = next(images, None)
    if first is None:
        raise InvalidInput(f"there are no images in {', '.join(map(str, paths))}")
    return chain([first], images)


def require_one(**options: object) -> None:
    """Refuse anything but exactly one of these options.

    Raises:
        InvalidInput: none or several were given; names them.
    """
    names = ["--" + name.replace("_", "-") for name in options]
    if sum(value is not None for value in options.values()) != 1:
        raise InvalidInput(f"give exactly one of {', '.join(names)}")


def refuse(reason: str, **options: object) -> None:
    """Refuse options that have no meaning here.

    Raises:
        InvalidInput: one was given; names it and the reason.
    """
    for name, value in options.items():
        if value is not None:
            raise InvalidInput(f"--{name.replace('_', '-')} {reason}")


def definition_of(
    concepts: str | None,
    concepts_file: Path | None,
    templates: list[str] | None,
    score: str | None,
    temperature: float | None,
    local_weight: float | None,
    negatives: NegativesChoice | None,
) -> Definition | None:
    """The definition that the options describe; None without concepts.

    Raises:
        InvalidInput: the definition is wrong, or there is part of one and no concepts.
    """
    if concepts is None and concepts_file is None:
        refuse(
            "goes with concepts; a detector has its own",
            template=templates or None,
            score=score,
            temperature=temperature,
            local_weight=local_weight,
            vocabulary=negatives,
        )
        return None
    chosen = read_concepts(concepts_file) if concepts_file else split_concepts(concepts or "")
    return define(
        chosen,
        templates=templates or None,
        score=score or "mcm",
        temperature=temperature,
        local_weight=local_weight,
        negatives=negatives,
    )


def split_concepts(text: str) -> list[Concept]:
    """Concepts from names between commas."""
    return [Concept(name.strip()) for name in text.split(",")]


def read_concepts(path: Path) -> list[Concept]:
    """Concepts from a file: a name a line, or a JSON list of names and {"name", "prompts"}.

    Raises:
        InvalidInput: the file is not such a list; says where.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not a UTF-8 text file") from error
    if text.lstrip().startswith("["):
        return _concepts_from_json(text, path)
    lines = (line.strip() for line in text.splitlines())
    return [Concept(line) for line in lines if line and not line.startswith("#")]


def _concepts_from_json(text: str, path: Path) -> list[Concept]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} starts like a JSON list and is not one: {error}") from error
    return [_concept_from_json(item, f"{path}, item {position}") for position, item in enumerate(items)]


def _concept_from_json(item: object, where: str) -> Concept:
    if isinstance(item, str):
        return Concept(item)
    if isinstance(item, dict) and set(item) <= {"name", "prompts"} and isinstance(item.get("name"), str):
        prompts = item.get("prompts", [])
        if isinstance(prompts, list) and all(isinstance(prompt, str) for prompt in prompts):
            return Concept(item["name"], tuple(prompts))
    raise InvalidInput(f'{where}: must be a name, or an object {{"name": ..., "prompts": [...]}}')
