"""Embeddings of texts that were encoded before."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from mcm.embeddings import Vectors

ENTRY_OVERHEAD_BYTES = 300  # measured: the objects around a text and its row


class TextCache:
    """Text -> embedding, least recently used out first, bounded by bytes. Thread-safe.

    One cache serves one encoder, so the text alone is the key.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes_in_use = 0

    def get(self, texts: Iterable[str]) -> dict[str, Vectors]:
        """The embeddings of those texts that are known."""
        with self._lock:
            known = {text: self._rows[text] for text in texts if text in self._rows}
            for text in known:
                self._rows.move_to_end(text)
            return known

    def put(self, text: str, row: Vectors) -> None:
        """Remember an embedding."""
        own = row.copy()  # a view would keep its whole batch in memory
        own.flags.writeable = False
        with self._lock:
            if text in self._rows:
                return
            self._rows[text] = own
            self.bytes_in_use += _cost(text, own)
            while self.bytes_in_use > self._max_bytes:
                self.bytes_in_use -= _cost(*self._rows.popitem(last=False))


def _cost(text: str, row: Vectors) -> int:
    return len(text.encode("utf-8", "surrogatepass")) + int(row.nbytes) + ENTRY_OVERHEAD_BYTES
