"""Rows of scores -> table, result file, JSON, and what there is to say at the end."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcm.cli.discoveries import Judge
from mcm.cli.files import check_out, rows_file
from mcm.cli.output import (
    STDOUT,
    list_failures,
    note,
    on_terminal,
    print_table,
    with_progress,
    write_json,
)
from mcm.cli.rows import COLUMNS, Row, as_dict, with_threshold
from mcm.errors import InvalidInput

OUT_SUFFIXES = (".csv", ".jsonl", ".parquet")
SHOWN = ("image", "concept", "score", "lift", "p-value", "verdict")


@dataclass
class Tally:
    """Counts rows as they pass."""

    seen: int = 0
    verdicts: dict[bool | None, int] = field(default_factory=lambda: {True: 0, False: 0, None: 0})
    failures: list[tuple[str, str]] = field(default_factory=list)

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted."""
        for row in rows:
            self.seen += 1
            if row.error is not None:
                self.failures.append((row.name, row.error))
            else:
                self.verdicts[row.is_ood] += 1
            yield row

    @property
    def summary(self) -> str:
        """What the rows were, in a line."""
        counts = {
            "OOD": self.verdicts[True],
            "in distribution": self.verdicts[False],
            "without a verdict (no threshold)": self.verdicts[None],
            "could not be used": len(self.failures),
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{self.seen} {'image' if self.seen == 1 else 'images'}: {told}"


def check(threshold: float | None, out: Path | None) -> None:
    """Refuse, before any work, what would fail after it.

    Raises:
        InvalidInput: a threshold that is no number, or a result file that cannot be written.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise InvalidInput(f"--threshold must be a finite number, not {threshold}")
    if out is not None:
        check_out(out, OUT_SUFFIXES)


def report(
    rows: Iterable[Row],
    *,
    threshold: float | None,
    judge: Judge | None,
    show_top: bool,
    out: Path | None,
    json_file: Path | None,
) -> bool:
    """Show or write the rows as they come, or, with a judge, once all are there.

    True if some images could not be used.
    """
    if threshold is not None:
        rows = (with_threshold(row, threshold) for row in rows)
    tally = Tally()
    rows = tally.watch(with_progress(rows, "scoring"))
    if judge is not None:
        rows = judge.mark(rows)
    kept: list[dict[str, Any]] = []
    if json_file is not None:
        rows = _keep(rows, kept)
    if out is not None:
        with rows_file(out, COLUMNS) as write:
            for row in rows:
                write(as_dict(row))
    elif json_file == STDOUT:
        for _ in rows:
            pass
    else:
        columns = (*SHOWN, *(["discovery"] if judge else []), *(["top"] if show_top else []))
        print_table(columns, (_cells(row, judge is not None, show_top) for row in rows))
    if json_file is not None:
        found = {} if judge is None else {"fdr": judge.as_json()}
        write_json(json_file, found | {"results": kept})
    list_failures(tally.failures, tally.seen)
    for told in () if judge is None else judge.notes:
        note(told)
    note(tally.summary if out is None else f"{tally.summary}; written to {out}")
    return bool(tally.failures)


def _keep(rows: Iterable[Row], kept: list[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        kept.append(as_dict(row))
        yield row


def _cells(row: Row, show_discovery: bool, show_top: bool) -> tuple[object, ...]:
    verdict = f"error: {row.error}" if row.error is not None and not on_terminal() else row.verdict
    cells: tuple[object, ...] = (row.name, row.concept, row.score, row.lift, row.p_value, verdict)
    if show_discovery:
        cells = (*cells, {True: "discovery", False: "none", None: None}[row.discovery])
    if not show_top:
        return cells
    return (*cells, ", ".join(f"{match['concept']} {match['similarity']:.4f}" for match in row.top) or None)
