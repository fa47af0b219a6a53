"""`mcm evaluate` on the published scores, beside the MCM paper's figures: `python -m benchmarks.published`.

The scores lie in shared/published_scores beside the repository, or in `--scores FOLDER` (see its README):
real per-image scores of OpenAI's ViT-B/16 and ViT-L/14 on ImageNet and four OOD sets. Each file is written as
CSV tables, evaluated by the command, and held against expected.json: every figure must agree to 1e-9.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SCORES = Path(__file__).resolve().parents[2] / "shared" / "published_scores"
SETS = ("iNaturalist", "Sun", "Places", "Texture")
NAMES = {"fpr95": "fpr95_id_positive"}
METRICS = ("auroc", "aupr", "fpr95", "fpr95_ood_positive")


def write_tables(file: Path, folder: Path) -> list[str]:
    """The scores of one file as CSV tables; the options of `mcm evaluate` that name them."""
    arguments = []
    with np.load(file) as data:
        for option, name, key in [
            ("--id", "ImageNet", "id_ImageNet1K"),
            *(("--ood", name, f"ood_{name}") for name in SETS),
        ]:
            path = folder / f"{name}.csv"
            with path.open("w", newline="") as table:
                csv.writer(table).writerows([["score"], *([float(score)] for score in data[key])])
            arguments += [option, f"{name}={path}"]
    return arguments


def evaluate(file: Path, folder: Path) -> dict[str, Any]:
    """What `mcm evaluate` says of one file, as JSON; its table is printed."""
    arguments = write_tables(file, folder)
    if "gl-mcm" not in file.name:  # the paper's figures are for MCM
        arguments += ["--paper", "--encoder", f"{file.name.partition('_')[0]}/openai"]
    command = [sys.executable, "-m", "mcm.cli", "evaluate", *arguments, "--out", str(folder / "out")]
    subprocess.run([*command, "--json", str(folder / "out.json")], check=True)
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def furthest(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of any metric of any set."""
    differences = [
        abs(found["sets"][name][metric] - figures[NAMES.get(metric, metric)])
        for name, figures in expected["sets"].items()
        for metric in METRICS
    ]
    return float(max(differences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, default=SCORES)
    folder = parser.parse_args().scores
    worst = 0.0
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        print(f"\n{name}", flush=True)
        with TemporaryDirectory() as place:
            worst = max(worst, furthest(evaluate(folder / f"{name}.npz", Path(place)), expected))
    print(f"\nlargest difference from expected.json: {worst:.1e}")
    sys.exit(worst > 1e-9)


if __name__ == "__main__":
    main()
