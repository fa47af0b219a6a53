"""The README's code blocks, and the tables that the code can write itself."""

import re
from dataclasses import dataclass
from pathlib import Path

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
