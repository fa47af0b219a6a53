"""What an evaluation found, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcm.bootstrap import FIELDS, Intervals
from mcm.metrics import Metrics
from mcm.scores import Floats


@dataclass(frozen=True)
class SetMetrics:
    """How well a score tells `n` OOD images from the ID images, with bootstrap intervals.

    For an average over OOD sets, `n` is the number of all their images.
    """

    n: int
    metrics: Metrics
    intervals: Intervals

    def to_json(self) -> dict[str, Any]:
        """The metrics under their names, `n`, and `intervals`: name -> [low, high]."""
        low, high = asdict(self.intervals.low), asdict(self.intervals.high)
        both = {name: [low[name], high[name]] for name in FIELDS}
        return {"n": self.n, **asdict(self.metrics), "intervals": both}


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """One score at one temperature: metrics for each OOD set and their average, and the scores themselves.

    `score` and `temperature` are None where the scores came from files. Scores are (n,), in the order of
    the images that could be used.
    """

    score: str | None
    temperature: float | None
    sets: Mapping[str, SetMetrics]
    average: SetMetrics
    id_scores: Floats
    ood_scores: Mapping[str, Floats]

    @property
    def title(self) -> str:
        """What was measured, in a word or two."""
        return "scores" if self.score is None else f"{self.score}, T = {self.temperature:g}"

    def to_json(self) -> dict[str, Any]:
        """The metrics, without the scores."""
        return {
            "score": self.score,
            "temperature": self.temperature,
            "sets": {name: found.to_json() for name, found in self.sets.items()},
            "average": self.average.to_json(),
        }


@dataclass(frozen=True)
class Extreme:
    """An image that the score gets most wrong; `path` is None where only its embedding is known."""

    name: str
    path: Path | None
    score: float


@dataclass(frozen=True)
class SetCount:
    """A data set: its images that were used and that could not be, some of the latter with the reason."""

    name: str
    used: int
    failed: int
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that was measured. `results` has at least one entry; the first is the one to look at first.

    `lowest_id` and `highest_ood` (set name -> images) are by the first result's score.
    """

    id_set: SetCount
    ood_sets: tuple[SetCount, ...]
    encoder: str | None
    results: tuple[ScoreResult, ...]
    lowest_id: tuple[Extreme, ...]
    highest_ood: Mapping[str, tuple[Extreme, ...]]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`sets` and `average` are the first result's; `results` has all of them."""
        first, *_ = (result.to_json() for result in self.results)
        return {
            "id": {"name": self.id_set.name, "n": self.id_set.used, "failed": self.id_set.failed},
            "failed": {found.name: found.failed for found in self.ood_sets},
            "encoder": self.encoder,
            "notes": list(self.notes),
            **first,
            "results": [result.to_json() for result in self.results],
        }


def average_of(metrics: list[Metrics]) -> Metrics:
    """The mean of each metric over OOD sets, each set counting the same, as papers average."""
    return Metrics(*np.mean([[getattr(m, name) for name in FIELDS] for m in metrics], axis=0).tolist())
