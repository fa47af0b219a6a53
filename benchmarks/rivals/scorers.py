"""What the rivals score with: open_clip as its README shows it, or our own encoder."""

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import open_clip
import torch
from PIL import Image

from mcm import build_detector, define, load_encoder, load_image


class Scorer(Protocol):
    """Files to pixels one by one, pixels to answers in batches."""

    def prepare(self, file: bytes) -> Any:
        """Pixels of one image file."""

    def scores(self, pixels: Sequence[Any]) -> list[dict[str, object]]:
        """Score and best concept of each."""


class OpenClip:
    """open_clip's own model, transform and tokenizer; random weights, for `ARCHITECTURE/random:SEED`.

    `texts` are the embeddings (k, d) of the concepts.
    """

    def __init__(self, spec: str, concepts: Sequence[str]) -> None:
        architecture, _, seed = spec.partition("/random:")
        torch.manual_seed(int(seed))
        self.model, _, self._transform = open_clip.create_model_and_transforms(architecture)
        self.model.eval()
        self._concepts = concepts
        tokens = open_clip.get_tokenizer(architecture)([f"a photo of a {name}" for name in concepts])
        with torch.inference_mode():
            self.texts = self.model.encode_text(tokens, normalize=True)

    def prepare(self, file: bytes) -> Any:
        """See `Scorer`."""
        return self._transform(Image.open(io.BytesIO(file)).convert("RGB"))

    def scores(self, pixels: Sequence[Any]) -> list[dict[str, object]]:
        """See `Scorer`."""
        with torch.inference_mode():
            images = self.model.encode_image(torch.stack(list(pixels)), normalize=True)
            best, index = (images @ self.texts.T).softmax(dim=1).max(dim=1)
        return [
            {"score": score, "concept": self._concepts[i]}
            for score, i in zip(best.tolist(), index.tolist(), strict=True)
        ]


class Ours:
    """The service's own encoder and detector."""

    def __init__(self, spec: str, concepts: Sequence[str]) -> None:
        self._encoder = load_encoder(spec)
        self._detector = build_detector(define(concepts), self._encoder)
        self._encoder.warmup()

    def prepare(self, file: bytes) -> Any:
        """See `Scorer`."""
        return self._encoder.prepare(load_image(file))

    def scores(self, pixels: Sequence[Any]) -> list[dict[str, object]]:
        """See `Scorer`."""
        verdicts = self._detector.judge(self._encoder.encode_images(np.stack(list(pixels))))
        return [{"score": verdict.score, "concept": verdict.concept} for verdict in verdicts]


SCORERS: dict[str, Callable[[str, Sequence[str]], Scorer]] = {"open_clip": OpenClip, "our_encoder": Ours}


def arguments() -> tuple[Callable[[], Scorer], int]:
    """From the command line `KIND SPEC PORT CONCEPT ...`: what makes the scorer, and the port."""
    kind, spec, port, *concepts = sys.argv[1:]
    return lambda: SCORERS[kind](spec, concepts), int(port)
