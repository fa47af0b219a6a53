"""`mcm evaluate`: known and foreign images in, how well the scores tell them apart out."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcm.cli import negatives, options
from mcm.cli.subjects import Wanted
from mcm.definition import Concept
from mcm.errors import InvalidInput, MissingExtra
from mcm.evaluation import paper as papers

if TYPE_CHECKING:
    from mcm.evaluation import DataSet, Evaluation
    from mcm.evaluation.paper import Comparison

IMAGENET = "imagenet"
EMBEDDINGS = "embeddings"

IdSet = Annotated[
    str,
    typer.Option(
        "--id", metavar="NAME=PATH", help="Images of the known classes: a folder, or a table (see above)."
    ),
]
OodSets = Annotated[
    list[str], typer.Option("--ood", metavar="NAME=PATH", help="Other images, in the same forms. Repeatable.")
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        metavar="imagenet|FILE",
        help="Known classes: open_clip's 1000 names of ImageNet-1k, or a file as for --concepts-file.",
    ),
]
Scores = Annotated[
    str | None, typer.Option("--score", metavar="A,B,...", help="Scores to compare. Default: mcm.")
]
Temperatures = Annotated[
    str | None,
    typer.Option("--temperature", metavar="T,...", help="Temperatures to compare. Default: the score's own."),
]
Paper = Annotated[
    bool,
    typer.Option(
        "--paper",
        help="Do as the authors of MCM: bilinear resize, no EXIF orientation, their prompt, lambda 0.5 for "
        "gl-mcm; and print their figures beside those measured.",
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where embeddings are kept, so that a stopped run goes on. Default: embeddings/ in --out.",
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Where the report, tables and plots go.", file_okay=False)
]


def evaluate(
    id_set: IdSet,
    ood_set: OodSets,
    concepts: options.Concepts = None,
    concepts_file: options.ConceptsFile = None,
    class_names: ClassNames = None,
    detector_file: options.DetectorFile = None,
    template: options.Templates = None,
    score: Scores = None,
    temperature: Temperatures = None,
    local_weight: options.LocalWeight = None,
    vocabulary: negatives.Vocabulary = None,
    paper: Paper = False,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    work: Work = None,
    out: Out = Path("mcm-evaluation"),
    json_file: options.Json = None,
) -> None:
    """Measure how well scores tell images of the known classes (ID) from others (OOD).

    PATH is a folder of images, flat or with subfolders; a .parquet or .csv table of embeddings (as mcm embed
    writes them); or a .csv, .jsonl or .parquet table with a column `score`, higher = more ID (as mcm score
    writes them). Needs the extra eval.

    \b
    mcm evaluate --id pets=known/ --ood street=street/ --concepts cat,dog,bird
    mcm evaluate --id pets=known.parquet --ood street=street.parquet --detector-file pets.json
    mcm evaluate --id ImageNet=id.csv --ood SUN=sun.csv --ood Places=places.csv --paper
    mcm evaluate --id ImageNet=val/ --ood SUN=SUN/ --class-names imagenet --encoder ViT-B-16/openai --paper
    """
    from mcm.cli import output, subjects
    from mcm.evaluation import evaluate as measure
    from mcm.evaluation import outputs, plots

    plots.require_matplotlib()
    sets = [_data_set(text) for text in (id_set, *ood_set)]
    known = _concepts(concepts, concepts_file, class_names)
    wanted = Wanted(template, _names(score), _numbers(temperature), local_weight, vocabulary, paper)
    subject = subjects.find(sets, known, detector_file, wanted, encoder, device)
    out.mkdir(parents=True, exist_ok=True)
    with output.image_progress() as watch:
        found = measure(
            sets[0],
            sets[1:],
            detectors=subject.detectors,
            encoder=subject.encoder,
            work=work or out / EMBEDDINGS,
            read=papers.read_without_orientation if paper else None,
            watch=watch,
        )
    rows = papers.compare(found.results[0], papers.architecture_of(encoder or found.encoder)) if paper else []
    outputs.write_outputs(found, out, rows)
    if json_file != output.STDOUT:
        _print_metrics(found)
        _print_paper(rows, paper)
    if json_file is not None:
        beside = {"paper": [asdict(row) for row in rows]} if paper else {}
        output.write_json(json_file, found.to_json() | beside)
    _conclude(found, out)


def _data_set(text: str) -> "DataSet":
    from mcm.evaluation import DataSet

    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise InvalidInput(f"a set is given as NAME=PATH, not {text!r}")
    return DataSet(name, Path(path))


def _concepts(concepts: str | None, file: Path | None, class_names: str | None) -> list[Concept] | None:
    if sum(value is not None for value in (concepts, file, class_names)) > 1:
        raise InvalidInput("give one of --concepts, --concepts-file and --class-names")
    if concepts is not None:
        return options.split_concepts(concepts)
    if class_names == IMAGENET:
        return [Concept(name) for name in _imagenet_names()]
    path = file if class_names is None else Path(class_names)
    return None if path is None else options.read_concepts(path)


def _imagenet_names() -> list[str]:
    """open_clip's own 1000 names; 998 are distinct, `missile` and `sunglasses` come twice."""
    try:
        from open_clip import IMAGENET_CLASSNAMES
    except ImportError as error:
        raise MissingExtra("clip", "the class names of ImageNet") from error
    return list(IMAGENET_CLASSNAMES)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError as error:
        raise InvalidInput(f"--temperature takes numbers between commas, not {text!r}") from error


def _print_metrics(found: "Evaluation") -> None:
    from mcm.cli import output
    from mcm.evaluation.html import TITLES, metric_cells

    rows = [
        (result.title, name, metrics.n, *metric_cells(metrics))
        for result in found.results
        for name, metrics in (*result.sets.items(), ("average", result.average))
    ]
    output.print_headed_table(("score", "set", "images", *TITLES.values()), rows)


def _print_paper(rows: "list[Comparison]", wanted: bool) -> None:
    """The paper's own figures beside those measured; says so where there is nothing to compare."""
    from mcm.cli import output
    from mcm.evaluation.html import COMPARISON_COLUMNS, comparison_cells

    if rows:
        output.print_headed_table(COMPARISON_COLUMNS, [comparison_cells(row) for row in rows])
        output.note(papers.WHY)
    elif wanted:
        output.note(
            "nothing to compare: the paper's figures are for mcm at T = 1, as the first score here, on sets "
            "named iNaturalist, SUN, Places and Texture"
        )


def _conclude(found: "Evaluation", out: Path) -> None:
    from mcm.cli import output
    from mcm.evaluation.outputs import REPORT

    failed = [one for one in (found.id_set, *found.ood_sets) if one.failed]
    for one in failed:
        output.note(f"{one.name}: {one.failed} of {one.used + one.failed} images could not be used")
        for name, why in one.failures:
            output.note(f"  {name}: {why}")
    output.note(f"report, tables and plots are in {out}; open {out / REPORT}")
    if failed:
        raise typer.Exit(1)
