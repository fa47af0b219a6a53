"""One HTML file that holds everything: tables, plots and the images that the score gets most wrong."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from string import Template

from mcm.bootstrap import FIELDS
from mcm.errors import ImageError
from mcm.evaluation.paper import WHY, Comparison
from mcm.evaluation.plots import Picture
from mcm.evaluation.results import Evaluation, Extreme, ScoreResult, SetMetrics
from mcm.images import load_image

THUMBNAIL = 160  # pixels
TITLES = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "fpr95": "FPR95",
    "fpr95_ood_positive": "FPR95, OOD positive",
}
# No script, and nothing is loaded from anywhere: the names of images come from other people.
_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
small, figcaption { color: #555; }
.plots img { width: min(100%, 36rem); }
.images { display: flex; flex-wrap: wrap; gap: .75rem; }
figure { margin: 0; width: 10rem; overflow-wrap: anywhere; font-size: .75rem; }
figure img { max-width: 10rem; }
</style>
<h1>$title</h1>
$body
</html>
""")


def html_report(
    evaluation: Evaluation,
    plots: Sequence[Mapping[str, Picture]],
    comparisons: Sequence[Comparison] = (),
) -> str:
    """The report as the text of one HTML file.

    `plots` are those of each result, see `mcm.evaluation.plots.draw`; `comparisons` those to the paper.
    """
    names = ", ".join(found.name for found in evaluation.ood_sets)
    body = [
        _counts(evaluation),
        *(f"<p>{escape(note)}</p>" for note in evaluation.notes),
        *(_section(result, pictures) for result, pictures in zip(evaluation.results, plots, strict=True)),
        _paper(comparisons) if comparisons else "",
        _images(f"{evaluation.id_set.name} (ID): lowest scores", evaluation.lowest_id),
        *(_images(f"{n} (OOD): highest scores", found) for n, found in evaluation.highest_ood.items()),
        _failures(evaluation),
    ]
    return _PAGE.substitute(title=escape(f"{evaluation.id_set.name} against {names}"), body="\n".join(body))


def percent(value: float, low: float, high: float) -> str:
    """A share and its interval in percent, for people."""
    return f"{100 * value:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def metric_cells(found: SetMetrics) -> list[str]:
    """Each metric with its interval, in the order of FIELDS."""
    m, ends = found.metrics, found.intervals
    return [percent(getattr(m, f), getattr(ends.low, f), getattr(ends.high, f)) for f in FIELDS]


def _counts(evaluation: Evaluation) -> str:
    rows = [
        (found.name, "ID" if found is evaluation.id_set else "OOD", f"{found.used:,}", f"{found.failed:,}")
        for found in (evaluation.id_set, *evaluation.ood_sets)
    ]
    encoder = f"<p>Encoder: {escape(evaluation.encoder)}</p>" if evaluation.encoder else ""
    return encoder + _table(("set", "", "images", "could not be used"), rows)


def _section(result: ScoreResult, pictures: Mapping[str, Picture]) -> str:
    rows = [
        *((name, *metric_cells(found)) for name, found in result.sets.items()),
        ("average", *metric_cells(result.average)),
    ]
    plots = "".join(
        f'<img alt="{escape(f"{kind}: {result.title}")}" src="data:image/svg+xml;base64,{_base64(one.svg)}">'
        for kind, one in pictures.items()
    )
    return (
        f"<h2>{escape(result.title)}</h2>{_table(('set', *TITLES.values()), rows)}"
        f"<p><small>Percent, with 95 % bootstrap intervals. FPR95: ID is positive, as in the MCM paper; OOD "
        f'positive: as in OpenOOD 1.5.</small></p><div class="plots">{plots}</div>'
    )


def _paper(comparisons: Sequence[Comparison]) -> str:
    rows = [comparison_cells(row) for row in comparisons]
    return f"<h2>Beside the paper</h2>{_table(COMPARISON_COLUMNS, rows)}<p>{escape(WHY)}</p>"


COMPARISON_COLUMNS = ("set", "FPR95", "paper", "difference", "AUROC", "paper", "difference")


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """A row under COMPARISON_COLUMNS, in percent."""
    return (
        row.name,
        f"{row.fpr95:.2f}",
        f"{row.paper.fpr95:.2f}",
        f"{row.fpr95_difference:+.2f}",
        f"{row.auroc:.2f}",
        f"{row.paper.auroc:.2f}",
        f"{row.auroc_difference:+.2f}",
    )


def _images(title: str, extremes: Sequence[Extreme]) -> str:
    figures = "".join(
        f"<figure>{_thumbnail(one)}<figcaption>{escape(one.name)}<br>{one.score:.6g}</figcaption></figure>"
        for one in extremes
    )
    return f'<h2>{escape(title)}</h2><div class="images">{figures}</div>'


def _thumbnail(extreme: Extreme) -> str:
    """A small copy of the image, or nothing where there is none any more."""
    if extreme.path is None:
        return ""
    try:
        image = load_image(extreme.path.read_bytes())
    except (OSError, ImageError):
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    content = BytesIO()
    image.save(content, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{_base64(content.getvalue())}">'


def _failures(evaluation: Evaluation) -> str:
    sets = (evaluation.id_set, *evaluation.ood_sets)
    rows = [(found.name, *failure) for found in sets for failure in found.failures]
    return f"<h2>Images that could not be used</h2>{_table(('set', 'image', 'why'), rows)}" if rows else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
