"""`mcm detector scores`: the calibration scores of a detector, to keep or to look at."""

from pathlib import Path
from typing import Annotated

import typer

from mcm.cli import options
from mcm.errors import InvalidInput

OUT_SUFFIXES = (".csv", ".jsonl", ".parquet")

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The detector's name on the server.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a .csv, .jsonl or .parquet file, not the table.")
]


def scores(
    name: Name = None,
    detector_file: options.DetectorFile = None,
    server: options.AnyServer = None,
    out: Out = None,
) -> None:
    """Export the scores that a detector was calibrated with, ascending; per concept, each with its concept.

    `mcm calibrate --stored` calibrates with them again.

    \b
    mcm detector scores pets --out pets-scores.csv
    mcm detector scores --detector-file pets.json
    """
    from mcm.cli import local, output, remote
    from mcm.cli.files import Columns, check_out, rows_file

    options.require_one(name=name, detector_file=detector_file)
    columns: Columns = {"score": "number", "concept": "text"}
    if out is not None:
        check_out(out, OUT_SUFFIXES)
    if detector_file is not None:
        calibration = local.read_detector(detector_file)[0].calibration
    else:
        calibration, _ = remote.calibration(options.any_server(server), str(name))
    if calibration.scores.size == 0:
        raise InvalidInput("there are no calibration scores: calibrate with images (mcm calibrate)")
    groups = calibration.groups
    concepts = [None] * calibration.scores.size if groups is None else list(groups.concepts)
    rows = list(zip(calibration.scores.tolist(), concepts, strict=True))
    if out is None:
        output.print_table(tuple(columns), rows)
        return
    with rows_file(out, columns) as write:
        for row in rows:
            write(dict(zip(columns, row, strict=True)))
    output.note(f"{len(rows)} scores written to {out}")
