"""What the user sees: tables on a terminal and plain lines elsewhere; notes and progress on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcm.cli.files import replacing

T = TypeVar("T")
STDOUT = Path("-")
STYLES = {"OOD": "bold red", "in distribution": "green", "error": "yellow"}


def printable(text: str) -> str:
    """The text on one line, without characters that could steer a terminal or that UTF-8 lacks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def on_terminal() -> bool:
    """Whether the results go to somebody's eyes."""
    return sys.stdout.isatty()


def note(text: str) -> None:
    """Tell the user something beside the results."""
    print(printable(text), file=sys.stderr)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere, as they come, tab-separated lines with the numbers in full."""
    if on_terminal():
        _print_rich(columns, rows)
        return
    for row in rows:
        print("\t".join(_plain(cell) for cell in row))


def print_headed_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose columns are named on a terminal and elsewhere."""
    print_table(columns, rows if on_terminal() else [columns, *rows])


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Names and values, one pair a line; pairs without a value are left out."""
    known = [(name, value) for name, value in facts if value is not None]
    if not on_terminal():
        print_table(("", ""), known)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in known:
        grid.add_row(Text(name, style="bold"), Text(_plain(value)))
    Console().print(grid)


def write_json(path: Path, data: object) -> None:
    """Write JSON to a file, whole or not at all, or to stdout for "-"."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if path == STDOUT:
        print(text.encode("utf-8", "backslashreplace").decode())
        return
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def list_failures(failures: Sequence[tuple[str, str]], seen: int) -> None:
    """Name the images that could not be used, and why."""
    if failures:
        note(f"{len(failures)} of {seen} images could not be used:")
    for name, error in failures:
        note(f"  {name}: {error}")


def with_progress(items: Iterable[T], what: str) -> Iterator[T]:
    """The items as they come, counted on stderr if it is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, in all) and shows a bar on stderr if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


@contextmanager
def image_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows on stderr, if it is a terminal, how far a task is, images a second and the time left.

    Gives what is to be called with (task, images done, images in all); 0 if their number is not known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[speed]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        speed,
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def watch(name: str, done: int, total: int) -> None:
            if name not in tasks:  # what a stopped run left is done already, and says nothing of the speed
                tasks[name] = progress.add_task(name, total=total or None, completed=done, speed="")
                return
            progress.update(tasks[name], completed=done)
            rate = next(task.speed for task in progress.tasks if task.id == tasks[name])
            progress.update(tasks[name], speed=f"{rate:.1f} images/s" if rate else "")

        yield watch


def _print_rich(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_short(cell), style=_style(cell)) for cell in row))
    Console().print(table)


def _style(cell: Any) -> str:
    return STYLES.get(cell, "") if isinstance(cell, str) else ""


def _short(cell: object) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else _plain(cell)


def _plain(cell: object) -> str:
    if cell is None:
        return "-"
    return repr(cell) if isinstance(cell, float) else printable(str(cell))
