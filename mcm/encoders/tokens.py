"""An open_clip tokenizer of any kind: token ids, and whether a text is too long for them."""

import threading
from collections.abc import Sequence
from typing import Any

import open_clip
import torch

MAX_CACHED_WORDS = 100_000


class Tokens:
    """Thread-safe: texts -> token ids (n, context length); `truncated` counts before the cut."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special_words = dict(getattr(tokenizer, "cache", {}))
        # A fast Hugging Face tokenizer changes its own state with every kind of call.
        self._lock = threading.Lock()
        self.context_length: int = tokenizer.context_length

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids (n, context length), cut to fit."""
        with self._lock:
            ids: torch.Tensor = self._tokenizer(list(texts))
            self._bound_cache()
            return ids

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text has more tokens, the special ones included, than fit."""
        with self._lock:
            counts = self._counts(list(texts))
            self._bound_cache()
        return [count > self.context_length for count in counts]

    def _counts(self, texts: list[str]) -> list[int]:
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            return [len(self._tokenizer.encode(text)) + 2 for text in texts]
        if not texts:
            return []
        clean = getattr(self._tokenizer, "clean_fn", str)
        # The mode `clips` puts a class token behind what the tokenizer itself gives.
        behind = 1 if getattr(self._tokenizer, "tokenizer_mode", "") == "clips" else 0
        encoded = self._tokenizer.tokenizer([clean(text) for text in texts], verbose=False)
        return [len(ids) + behind for ids in encoded["input_ids"]]

    def _bound_cache(self) -> None:
        """open_clip's tokenizer remembers every word that it ever met; a service must not."""
        cache = getattr(self._tokenizer, "cache", None)
        if isinstance(cache, dict) and len(cache) > MAX_CACHED_WORDS:
            cache.clear()
            cache.update(self._special_words)
