"""What the shortcuts change, over the photographs: `python -m benchmarks.quality`.

For each: the lowest cosine between an embedding with and without it, and the largest change of an MCM score
as a share of the scores' interquartile range. The bar: cosine >= 0.9999 and change <= 1 %.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rivals.scorers import OpenClip
from benchmarks.speed import CONCEPTS, IMAGES, SPEC
from mcm import load_image
from mcm.embeddings import Vectors, unit_rows
from mcm.encoders import Encoder, Pixels, load_encoder
from mcm.scores import mcm

BATCH = 32


def in_batches(encode: Callable[[Pixels], Vectors], items: Pixels, what: str) -> Vectors:
    """The rows of all images, some at a time."""
    starts = track(range(0, len(items), BATCH), what, console=Console(stderr=True))
    return np.concatenate([encode(items[i : i + BATCH]) for i in starts])


def prepared(encoder: Encoder, folder: Path) -> Pixels:
    """All photographs as the encoder's pixels."""
    return np.stack([encoder.prepare(load_image(path.read_bytes())) for path in sorted(folder.glob("*.jpg"))])


def change(images: tuple[Vectors, Vectors], texts: tuple[Vectors, Vectors]) -> tuple[float, float]:
    """Lowest cosine of the image rows, and largest change of score over the interquartile range."""
    without, with_ = (mcm(rows @ names.T) for rows, names in zip(images, texts, strict=True))
    low, high = np.quantile(without, [0.25, 0.75])
    cosine = (unit_rows(images[0]) * unit_rows(images[1])).sum(axis=1).min()
    return float(cosine), float(np.abs(with_ - without).max() / (high - low))


def clip_row(folder: Path) -> tuple[float, float]:
    """Fused blocks and texts without padding, against open_clip's own modules."""
    encoder = load_encoder(SPEC, device="cpu")
    pixels = prepared(encoder, folder)
    plain = OpenClip(SPEC, CONCEPTS)
    mean, std = (np.reshape(getattr(plain.model.visual, f"image_{k}"), (1, 3, 1, 1)) for k in ("mean", "std"))

    def encode(batch: Pixels) -> Vectors:
        with torch.inference_mode():
            values = torch.tensor((batch / 255 - mean) / std, dtype=torch.float32)
            return unit_rows(plain.model.encode_image(values).numpy())

    images = in_batches(encode, pixels, "open_clip"), in_batches(encoder.encode_images, pixels, "clip")
    return change(
        images, (plain.texts.numpy(), encoder.encode_texts([f"a photo of a {c}" for c in CONCEPTS]))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    table = Table("shortcut", "lowest cosine", "largest change / IQR")
    cosine, moved = clip_row(arguments.images)
    table.add_row("fused blocks, texts without padding: B/32", f"{cosine:.8f}", f"{moved:.5%}")
    Console().print(table)


if __name__ == "__main__":
    main()
