import re
from pathlib import Path

import mcm

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def test_the_newest_entry_is_this_version() -> None:
    entry = re.search(r"^## (\S+)$", CHANGELOG.read_text(), re.MULTILINE)
    assert entry is not None
    assert entry[1] == mcm.__version__
