"""The 500 photographs: 180 of 21 everyday groups, and 320 that belong to none."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tests.shared import shared


@dataclass(frozen=True)
class Groups:
    """Group names; photographs to calibrate with, new ones of the groups, and ones of no group."""

    names: list[str]
    calibration: list[Path]
    new: list[Path]
    outside: list[Path]


def groups() -> Groups:
    """The photographs, the grouped ones halved at random with a fixed seed."""
    folder = shared("images")
    labels = json.loads((folder / "labels.json").read_text())
    inside = sorted(name for name, label in labels.items() if label["coarse"])
    outside = sorted(set(labels) - set(inside))
    random.Random(0).shuffle(inside)
    half = len(inside) // 2
    return Groups(
        names=sorted({labels[name]["coarse"] for name in inside}),
        calibration=[folder / name for name in inside[:half]],
        new=[folder / name for name in inside[half:]],
        outside=[folder / name for name in outside],
    )
