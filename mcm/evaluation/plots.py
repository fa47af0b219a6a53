"""Pictures of an evaluation: score distributions, ROC, threshold against rates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mcm.errors import MissingExtra
from mcm.evaluation.results import ScoreResult
from mcm.scores import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plot = Callable[["Axes", ScoreResult, str], None]

_POINTS = 500  # of a curve, however many scores there are
_BINS = 80
_ID_COLOUR = "#222222"


@dataclass(frozen=True)
class Picture:
    """A plot as the bytes of two files."""

    png: bytes
    svg: bytes


def draw(result: ScoreResult, id_name: str) -> dict[str, Picture]:
    """The plots of one result by their names, which are those of KINDS. The same data give the same bytes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return {kind: _picture(result, id_name, plot) for kind, plot in KINDS.items()}


def require_matplotlib() -> None:
    """Raises MissingExtra where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra("eval", "drawing plots") from error


def accepted(scores: Floats, thresholds: Floats) -> Floats:
    """The share of scores (n,) that are not below each threshold (t,): (t,), in [0, 1]."""
    ascending = np.sort(scores)
    return 1 - np.searchsorted(ascending, thresholds, side="left") / scores.size


def thresholds_of(*samples: Floats) -> Floats:
    """Ascending thresholds that follow the samples: quantiles of each, and one above all scores."""
    some = [np.quantile(scores, np.linspace(0, 1, _POINTS), method="lower") for scores in samples]
    return np.append(np.unique(np.concatenate(some)), np.inf)


def _range(result: ScoreResult) -> tuple[float, float]:
    """From low to high scores but for the most extreme; some of each set lie in it."""
    sets = [result.id_scores, *result.ood_scores.values()]
    low = min(np.quantile(scores, 0.001, method="lower") for scores in sets)
    high = max(np.quantile(scores, 0.999, method="higher") for scores in sets)
    return float(low), float(high if low < high else low + 1)


def _label(name: str) -> str:
    """A legend leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def _distributions(axes: "Axes", result: ScoreResult, id_name: str) -> None:
    bins = np.linspace(*_range(result), _BINS).tolist()
    for name, scores in result.ood_scores.items():
        axes.hist(scores, bins, density=True, histtype="step", label=_label(name))
    axes.hist(
        result.id_scores, bins, density=True, alpha=0.25, color=_ID_COLOUR, label=_label(f"{id_name} (ID)")
    )
    axes.set(xlabel="score (higher = more in-distribution)", ylabel="density", title=result.title)
    axes.set_yticks([])


def _roc(axes: "Axes", result: ScoreResult, id_name: str) -> None:
    for name, scores in result.ood_scores.items():
        thresholds = thresholds_of(result.id_scores, scores)
        label = f"{_label(name)}: AUROC {100 * result.sets[name].metrics.auroc:.2f} %"
        axes.plot(accepted(scores, thresholds), accepted(result.id_scores, thresholds), label=label)
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    axes.axhline(0.95, color="0.8", linestyle=":", zorder=0)
    axes.set(xlabel="share of OOD accepted", ylabel=f"share of {id_name} accepted", title=result.title)


def _thresholds(axes: "Axes", result: ScoreResult, id_name: str) -> None:
    thresholds = thresholds_of(result.id_scores, *result.ood_scores.values())[:-1]
    axes.plot(
        thresholds,
        1 - accepted(result.id_scores, thresholds),
        color=_ID_COLOUR,
        label=_label(f"{id_name} called OOD"),
    )
    for name, scores in result.ood_scores.items():
        axes.plot(thresholds, accepted(scores, thresholds), label=_label(f"{name} accepted"))
    axes.axhline(0.05, color="0.8", linestyle=":", zorder=0)
    axes.set(
        xlabel="threshold", ylabel="share of images", title=result.title, xlim=_range(result), ylim=(0, 1)
    )


KINDS: Mapping[str, Plot] = {
    "distributions": _distributions,
    "roc": _roc,
    "thresholds": _thresholds,
}


def _picture(result: ScoreResult, id_name: str, plot: Plot) -> Picture:
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    with matplotlib.rc_context(
        {"svg.hashsalt": result.title, "axes.titlesize": "medium", "text.parse_math": False}
    ):
        figure = Figure(figsize=(6.4, 4.0), layout="tight")
        axes = figure.subplots()
        plot(axes, result, id_name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
        return Picture(_saved(figure, "png", {"Software": None}), _saved(figure, "svg", {"Date": None}))


def _saved(figure: Any, file_format: str, metadata: dict[str, None]) -> bytes:
    content = BytesIO()
    figure.savefig(content, format=file_format, dpi=120, metadata=metadata)
    return content.getvalue()
