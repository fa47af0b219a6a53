"""The false discovery rate over all rows of a command."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mcm.calibration import Calibration
from mcm.cli.rows import Row
from mcm.errors import InvalidInput
from mcm.fdr import DEFAULT_METHOD, METHODS, Discoveries, discover_images, require_p_values
from mcm.thresholds import percent


def check(fdr: float | None, method: str | None) -> None:
    """Refuse, before any work, what would fail after it.

    Raises:
        InvalidInput: a rate outside (0, 1), an unknown method, or a method without a rate.
    """
    if fdr is not None and not 0 < fdr < 1:
        raise InvalidInput(f"--fdr must lie between 0 and 1, not {fdr}")
    if method is not None and fdr is None:
        raise InvalidInput("--fdr-method goes with --fdr")
    if method is not None and method not in METHODS:
        raise InvalidInput(f"there is no FDR method {method!r}; choose one of {', '.join(METHODS)}")


@dataclass
class Judge:
    """Marks the discoveries among rows, all at once, by the p-values of one calibration.

    Raises:
        NotCalibrated: it has no scores.
    """

    calibration: Calibration
    q: float
    method: str = DEFAULT_METHOD
    made: Discoveries | None = None

    def __post_init__(self) -> None:
        require_p_values(self.calibration)

    def mark(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows with their `discovery`, once all are there."""
        kept = list(rows)
        scored = [(row.score, str(row.concept)) for row in kept if row.score is not None]
        scores, concepts = [score for score, _ in scored], [concept for _, concept in scored]
        self.made = discover_images(self.calibration, scores, concepts, self.q, method=self.method)
        marks = iter(self.made.found.tolist())
        for row in kept:
            yield row if row.score is None else replace(row, discovery=next(marks))

    @property
    def notes(self) -> list[str]:
        """What was found, and what to know of it, in lines."""
        assert self.made is not None
        found, m = int(self.made.found.sum()), self.made.found.size
        told = [f"{found} discoveries among {m} images at FDR {percent(self.q)}"]
        return told if self.made.caution is None else [*told, f"warning: {self.made.caution}"]

    def as_json(self) -> dict[str, Any]:
        """What was found, as the HTTP contract has it."""
        assert self.made is not None
        return {
            "q": self.made.q,
            "method": self.made.method,
            "m": self.made.found.size,
            "discoveries": int(self.made.found.sum()),
            "smallest_possible": self.made.smallest_possible,
        }
