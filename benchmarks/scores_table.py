"""Every score at three temperatures on 500 photographs: `python -m benchmarks.scores_table`.

Three tasks on the photographs of shared/images (or `--images FOLDER`, see builtin_quality): those of 21
everyday groups against all others; dog breeds against the other animals (near), and against what is no animal
(far). Each figure with its 95 % bootstrap interval.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from benchmarks.builtin_quality import IMAGES
from mcm import Definition, Detector, Encoder, NegativesChoice, build_detector, define, load_encoder
from mcm.bootstrap import DEFAULT_DRAWS, intervals
from mcm.embeddings import Vectors
from mcm.metrics import metrics
from mcm.pipeline import embed_images
from mcm.scores import SCORES
from mcm.vocabularies import IMAGENET, Vocabulary, load_vocabulary

TEMPERATURES = (1.0, 0.1, 0.01)
ANIMALS = 398  # the first classes of ImageNet
COLUMNS = ("score", "T", "AUROC", "AUPR", "FPR95", "FPR95, OOD positive")


@dataclass(frozen=True)
class Task:
    """Concepts, and which of the photographs are ID and OOD."""

    name: str
    concepts: list[str]
    id_: NDArray[np.bool_]
    ood: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Photographs:
    """Embeddings (n, d), and those of the patches (n, rows, columns, d)."""

    embeddings: Vectors
    patches: Vectors


def tasks(folder: Path) -> list[Task]:
    """The tasks, with masks over the photographs in the order of their names."""
    labels = [label for _, label in sorted(json.loads((folder / "labels.json").read_text()).items())]
    groups = np.array([label["coarse"] or "" for label in labels])
    animal = np.array([label["class_index"] < ANIMALS for label in labels])
    grouped, dog = groups != "", groups == "dog"
    breeds = sorted({label["label"] for label in labels if label["coarse"] == "dog"})
    return [
        Task("21 groups against the rest", sorted(set(groups) - {""}), grouped, ~grouped),
        Task("dog breeds against other animals (near)", breeds, dog, animal & ~dog),
        Task("dog breeds against all but animals (far)", breeds, dog, ~animal),
    ]


def photographs(encoder: Encoder, folder: Path, progress: Console) -> Photographs:
    """All photographs, embedded once."""
    files = sorted(folder.glob("*.jpg"))
    found = embed_images(encoder, files, patches=True)
    embedded = list(track(found, "photographs", total=len(files), console=progress))
    return Photographs(
        np.stack([one.embedding for one in embedded if one.embedding is not None]),
        np.stack([one.patches for one in embedded if one.patches is not None]),
    )


def definitions(concepts: list[str], words: Vocabulary) -> Iterator[Definition]:
    """Every score at every temperature that it depends on."""
    for score in SCORES.values():
        negatives = NegativesChoice(words.name, words.hash) if score.negatives else None
        for temperature in TEMPERATURES[:1] if score.name == "max-logit" else TEMPERATURES:
            yield define(concepts, score=score.name, temperature=temperature, negatives=negatives)


def mined(definition: Definition, encoder: Encoder, words: Vocabulary, console: Console) -> Detector:
    """The detector; a bar while the words of its negatives are encoded."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("words", total=len(words.words))
        return build_detector(
            definition,
            encoder,
            vocabulary=words,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def scores_of(detector: Detector, photos: Photographs) -> NDArray[np.float64]:
    """The scores (n,) of all photographs."""
    needs_patches = SCORES[detector.definition.score].local
    local = detector.local(photos.embeddings, photos.patches) if needs_patches else None
    return detector.scores(photos.embeddings, local=local)


def row(definition: Definition, scores: NDArray[np.float64], task: Task, draws: int) -> list[str]:
    """The figures of one score in per cent, each with its interval."""
    id_, ood = scores[task.id_], scores[task.ood]
    around = intervals(id_, ood, draws=draws)
    figures = zip(astuple(metrics(id_, ood)), astuple(around.low), astuple(around.high), strict=True)
    cells = [f"{100 * value:5.1f} [{100 * low:5.1f}, {100 * high:5.1f}]" for value, low, high in figures]
    depends = definition.score != "max-logit"
    return [definition.score, f"{definition.temperature:g}" if depends else "any", *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--encoder", default="builtin", help="one that gives patches")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--vocabulary", default=IMAGENET, help="of neglabel; see mcm score --help")
    parser.add_argument("--draws", type=int, default=DEFAULT_DRAWS, help="of the bootstrap")
    options = parser.parse_args()
    progress, out = Console(stderr=True), Console(width=130)
    encoder, words = load_encoder(options.encoder, device=options.device), load_vocabulary(options.vocabulary)
    photos = photographs(encoder, options.images, progress)
    for task in tasks(options.images):
        title = f"{task.name}: {task.id_.sum()} ID, {task.ood.sum()} OOD, {len(task.concepts)} concepts"
        table = Table(*COLUMNS, title=title)
        for definition in definitions(task.concepts, words):
            detector = mined(definition, encoder, words, progress)
            table.add_row(*row(definition, scores_of(detector, photos), task, options.draws))
        out.print(table)


if __name__ == "__main__":
    main()
