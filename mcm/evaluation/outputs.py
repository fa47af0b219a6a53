"""An evaluation as files: JSON, CSV, plots and the HTML report."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import astuple
from io import StringIO
from pathlib import Path

from mcm.bootstrap import FIELDS
from mcm.evaluation.html import html_report
from mcm.evaluation.paper import Comparison
from mcm.evaluation.plots import draw
from mcm.evaluation.results import Evaluation, ScoreResult

REPORT = "report.html"


def write_outputs(evaluation: Evaluation, folder: Path, comparisons: Sequence[Comparison] = ()) -> None:
    """Write metrics.json, metrics.csv, report.html and plots/*.png, *.svg into the folder.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    plots = [draw(result, evaluation.id_set.name) for result in evaluation.results]
    text = json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (folder / "metrics.csv").write_text(metrics_csv(evaluation), encoding="utf-8")
    (folder / REPORT).write_text(html_report(evaluation, plots, comparisons), encoding="utf-8")
    for result, pictures in zip(evaluation.results, plots, strict=True):
        for kind, picture in pictures.items():
            path = folder / "plots" / f"{_slug(result)}-{kind}"
            path.with_name(path.name + ".png").write_bytes(picture.png)
            path.with_name(path.name + ".svg").write_bytes(picture.svg)


def metrics_csv(evaluation: Evaluation) -> str:
    """A row for each score, temperature and set, and for each average; every digit of every number."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{name}_{end}" for end in ("low", "high") for name in FIELDS]
    writer.writerow(["score", "temperature", "set", "n", *FIELDS, *ends])
    for result in evaluation.results:
        for name, found in (*result.sets.items(), ("average", result.average)):
            numbers = (astuple(m) for m in (found.metrics, found.intervals.low, found.intervals.high))
            values = [value for metrics in numbers for value in metrics]
            writer.writerow([result.score, result.temperature, name, found.n, *values])
    return text.getvalue()


def _slug(result: ScoreResult) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", result.title.lower().replace("t = ", "t"))
