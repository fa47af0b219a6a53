"""MiniLM: the sentence encoder inside the built-in encoder."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from transformers.utils import logging as transformers_logging

from mcm.embeddings import Vectors
from mcm.encoders.runtime import embeddings_of, encoder_errors

TEXT_BATCH = 64


class Sentences:
    """MiniLM: texts -> unit rows of length 384. Thread-safe."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        with _no_progress_bars():
            self._model: Any = sentence_transformers.SentenceTransformer(
                str(folder), device=str(device), local_files_only=True
            )
        self.max_tokens = int(self._model.max_seq_length or self._model.tokenizer.model_max_length)
        # The tokenizer changes its own state with every kind of call.
        self._lock = threading.Lock()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The state dict."""
        return dict(self._model.state_dict())

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: m texts -> (m, 384)."""
        with encoder_errors("encoding texts"), torch.inference_mode(), self._lock:
            return embeddings_of(
                self._model.encode(
                    list(texts), batch_size=TEXT_BATCH, show_progress_bar=False, convert_to_numpy=True
                )
            )

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text has more tokens, the special ones included, than are read."""
        if not texts:
            return []
        with self._lock:
            tokens = self._model.tokenizer(list(texts), truncation=False, padding=False, verbose=False)
        return [len(ids) > self.max_tokens for ids in tokens["input_ids"]]


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
