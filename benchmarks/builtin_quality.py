"""How well the built-in encoder knows 500 photographs: `python -m benchmarks.builtin_quality`.

The photographs lie in shared/images beside the repository, or in `--images FOLDER`, with a labels.json:
file name -> {"class_index": ImageNet class, "label": its name, "coarse": an everyday group or null}.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcm.definition import define
from mcm.encoders.builtin import BuiltinEncoder, load_builtin
from mcm.encoders.protocol import Pixels
from mcm.images import load_image
from mcm.metrics import metrics
from mcm.prompts import build_detector

IMAGES = Path(__file__).resolve().parents[2] / "shared" / "images"
BATCH = 32


@dataclass(frozen=True)
class Quality:
    """Shares in [0, 1]; `auroc` of the photographs that belong to a group against all others."""

    images: int
    network_top1: float
    text_space_top1: float
    grouped: int
    named_rightly: float
    auroc: float


def measure(encoder: BuiltinEncoder, folder: Path = IMAGES) -> Quality:
    """Classification over the 1000 ImageNet classes, and MCM at T = 1 over the group names."""
    labels = json.loads((folder / "labels.json").read_text())
    files = sorted(labels)
    classes = np.array([labels[file]["class_index"] for file in files])
    groups = np.array([labels[file]["coarse"] or "" for file in files])
    pixels = [encoder.prepare(load_image((folder / file).read_bytes())) for file in files]
    probabilities = np.concatenate([encoder.classify(batch) for batch in batches(pixels)])
    embeddings = encoder.mix(probabilities)

    detector = build_detector(define(sorted(set(groups) - {""})), encoder)
    named = np.array([verdict.concept for verdict in detector.judge(embeddings)])
    scores, inside = detector.scores(embeddings), groups != ""
    return Quality(
        images=len(files),
        network_top1=float(np.mean(probabilities.argmax(axis=1) == classes)),
        text_space_top1=float(np.mean((embeddings @ encoder.classes.T).argmax(axis=1) == classes)),
        grouped=int(inside.sum()),
        named_rightly=float(np.mean(named[inside] == groups[inside])),
        auroc=metrics(scores[inside], scores[~inside]).auroc,
    )


def batches(pixels: Sequence[Pixels]) -> list[Pixels]:
    return [np.stack(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality of the built-in encoder on labelled photographs")
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    q = measure(load_builtin(options.device), options.images)
    print(f"photographs                                  {q.images}")
    print(f"top-1 of the network, 1000 classes           {q.network_top1:.3f}")
    print(f"top-1 through the text space, 1000 classes   {q.text_space_top1:.3f}")
    print(f"named rightly, {q.grouped} photographs of the groups   {q.named_rightly:.3f}")
    print(f"AUROC, these against the others (mcm, T = 1) {q.auroc:.3f}")


if __name__ == "__main__":
    main()
