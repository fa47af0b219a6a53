"""`mcm score`: images in, verdicts out."""

import typer

from mcm.cli import options


def score(
    paths: options.Paths,
    concepts: options.Concepts = None,
    concepts_file: options.ConceptsFile = None,
    detector_file: options.DetectorFile = None,
    detector: options.DetectorName = None,
    template: options.Templates = None,
    score_name: options.ScoreName = None,
    temperature: options.Temperature = None,
    threshold: options.Threshold = None,
    top_k: options.TopK = 1,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.Server = None,
    jobs: options.Jobs = None,
    out: options.ScoresOut = None,
    json_file: options.Json = None,
) -> None:
    """Score images: how well does each match one of the classes you know?

    On this machine with the built-in encoder, or with --server. Without a threshold there are scores and
    no verdicts.

    \b
    mcm score photos/ --concepts "cat,dog,bird"
    mcm score cat.jpg --concepts-file pets.txt --threshold 0.35
    mcm score photos/ --detector-file pets.json --out scores.csv
    mcm score photos/ --detector pets --server http://127.0.0.1:8000
    """
    from mcm.cli import local, remote, report

    options.require_one(
        concepts=concepts, concepts_file=concepts_file, detector_file=detector_file, detector=detector
    )
    definition = options.definition_of(concepts, concepts_file, template, score_name, temperature)
    report.check(threshold, out)
    url = options.server_for(server, detector=detector, detector_file=detector_file, encoder=encoder)
    images = options.images_of(paths)
    if detector_file is not None:
        rows = local.rows_of_file(detector_file, encoder, device, images, top_k, jobs)
    elif definition is None:
        rows = remote.rows_of_detector(str(url), str(detector), images, top_k, jobs)
    elif url is None:
        rows = local.rows_of_concepts(definition, encoder, device, images, top_k, jobs)
    else:
        rows = remote.rows_of_concepts(url, definition, images, top_k, jobs)
    if report.report(rows, threshold=threshold, show_top=top_k > 1, out=out, json_file=json_file):
        raise typer.Exit(1)
