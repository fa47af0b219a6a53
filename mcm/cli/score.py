"""`mcm score`: images in, verdicts out."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mcm.cli import negatives, options
from mcm.definition import Definition
from mcm.errors import InvalidInput

if TYPE_CHECKING:
    from mcm.cli.discoveries import Judge
    from mcm.cli.rows import Row


def score(
    paths: options.Paths,
    concepts: options.Concepts = None,
    concepts_file: options.ConceptsFile = None,
    detector_file: options.DetectorFile = None,
    detector: options.DetectorName = None,
    template: options.Templates = None,
    score_name: options.ScoreName = None,
    temperature: options.Temperature = None,
    local_weight: options.LocalWeight = None,
    vocabulary: negatives.Vocabulary = None,
    groups: negatives.Groups = None,
    seed: negatives.Seed = None,
    drop_near: negatives.DropNear = False,
    threshold: options.Threshold = None,
    fdr: options.Fdr = None,
    fdr_method: options.FdrMethod = None,
    top_k: options.TopK = 1,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.Server = None,
    jobs: options.Jobs = None,
    out: options.ScoresOut = None,
    json_file: options.Json = None,
) -> None:
    """Score images: how well does each match one of the classes you know?

    Without a threshold there are scores and no verdicts.

    \b
    mcm score photos/ --concepts "cat,dog,bird"
    mcm score cat.jpg --concepts-file pets.txt --threshold 0.35
    mcm score photos/ --detector-file pets.json --out scores.csv
    mcm score photos/ --detector pets --server http://127.0.0.1:8000 --fdr 0.1
    """
    from mcm.cli import discoveries, report

    options.require_one(
        concepts=concepts, concepts_file=concepts_file, detector_file=detector_file, detector=detector
    )
    url = options.server_for(server, detector=detector, detector_file=detector_file, encoder=encoder)
    if url is not None and score_name == negatives.NEGLABEL:
        raise InvalidInput(
            "on a server neglabel needs a detector, so that its negatives are found once: "
            "mcm detector create NAME --score neglabel, then --detector NAME"
        )
    choice = negatives.negatives_of(score_name, vocabulary, groups, seed, drop_near, on_server=False)
    source = options.definition_of(
        concepts, concepts_file, template, score_name, temperature, local_weight, choice
    )
    report.check(threshold, out)
    discoveries.check(fdr, fdr_method)
    if fdr is not None and source is not None:
        raise InvalidInput("--fdr needs a calibrated detector, not concepts: --detector-file or --detector")
    images = options.images_of(paths, url)
    wanted = source or detector_file or str(detector)
    judge, revision = _judge(wanted, url, fdr, fdr_method)
    rows = _rows(wanted, vocabulary, url, images, encoder, device, top_k, jobs, revision)
    if report.report(
        rows, threshold=threshold, judge=judge, show_top=top_k > 1, out=out, json_file=json_file
    ):
        raise typer.Exit(1)


def _judge(
    source: Definition | Path | str, url: str | None, fdr: float | None, method: str | None
) -> "tuple[Judge | None, int | None]":
    """What marks discoveries, if that is asked for, and the revision that a server's detector must have."""
    from mcm.cli import discoveries, local, remote
    from mcm.fdr import DEFAULT_METHOD

    if fdr is None:
        return None, None
    if isinstance(source, Path):
        calibration, revision = local.read_detector(source)[0].calibration, None
    else:
        calibration, revision = remote.calibration(str(url), str(source))
    return discoveries.Judge(calibration, fdr, method or DEFAULT_METHOD), revision


def _rows(
    source: Definition | Path | str,
    vocabulary: str | None,
    url: str | None,
    images: Iterable[Path],
    encoder: str | None,
    device: str,
    top_k: int,
    jobs: int | None,
    revision: int | None,
) -> "Iterator[Row]":
    """Scores against concepts, by a detector file, or by a server's detector of this name."""
    from mcm.cli import local, remote

    if isinstance(source, Path):
        return local.rows_of_file(source, encoder, device, images, top_k, jobs)
    if isinstance(source, str):
        return remote.rows_of_detector(str(url), source, images, top_k, jobs, revision=revision)
    if url is None:
        return local.rows_of_concepts(source, vocabulary, encoder, device, images, top_k, jobs)
    return remote.rows_of_concepts(url, source, images, top_k, jobs)
