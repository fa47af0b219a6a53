"""The README's code blocks, and the tables that the code writes itself: `python -m tests.readme`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import PROBLEMS
from app.main import create_app
from app.settings import Settings
from tests.fakes import ColourEncoder

README = Path(__file__).resolve().parents[1] / "README.md"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the output block that follows it, if one does."""

    language: str
    text: str
    output: str | None


def blocks() -> list[Block]:
    """The code blocks of the README, in order; `json` and `text` blocks are outputs."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    outputs = {"json", "text"}
    return [
        Block(
            language,
            text,
            found[i + 1][1] if i + 1 < len(found) and found[i + 1][0] in outputs else None,
        )
        for i, (language, text) in enumerate(found)
        if language not in outputs
    ]


def with_tables(text: str) -> str:
    """The README with its marked tables as the code says them now."""
    for name, rows in TABLES.items():
        marked = rf"(<!-- table: {name} -->\n.*\n.*\n)(?:\|.*\n)*(?=<!-- end of table -->)"
        head = re.search(marked, text)
        assert head is not None, name
        text = text.replace(head[0], head[1] + "".join(f"{row}\n" for row in rows()))
    return text


def route_rows() -> Iterator[str]:
    """Each route, with the first line of its description."""
    for path, operations in create_app(Settings(), ColourEncoder()).openapi()["paths"].items():
        for method, operation in operations.items():
            yield f"| `{method.upper()} {path}` | {operation['description'].splitlines()[0]} |"


def problem_rows() -> Iterator[str]:
    """Each status, with its problem types."""
    for status in sorted({status for status, _, _ in PROBLEMS.values()}):
        codes = dict.fromkeys(code for s, code, _ in PROBLEMS.values() if s == status)
        yield f"| {status} | {', '.join(f'`{code}`' for code in codes)} |"


def setting_rows() -> Iterator[str]:
    """Each setting, with its default and what it is."""
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
        yield f"| `MCM_{name.upper()}` | {f'`{default}`' if default else ''} | {field.description} |"


TABLES = {"routes": route_rows, "problems": problem_rows, "settings": setting_rows}

if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
