"""Embeddings of what was encoded before: texts by themselves, images by the hash of their file."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from mcm.embeddings import Vectors

ENTRY_OVERHEAD_BYTES = 300  # measured: the objects around a key and its row


class RowCache:
    """Key -> embedding, least recently used out first, bounded by bytes. Thread-safe.

    One cache serves one encoder, so the encoder is not part of the key.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes_in_use = 0

    def get(self, keys: Iterable[str]) -> dict[str, Vectors]:
        """The embeddings of those keys that are known."""
        with self._lock:
            known = {key: self._rows[key] for key in keys if key in self._rows}
            for key in known:
                self._rows.move_to_end(key)
            return known

    def put(self, key: str, row: Vectors) -> None:
        """Remember an embedding."""
        own = row.copy()  # a view would keep its whole batch in memory
        own.flags.writeable = False
        with self._lock:
            if key in self._rows:
                return
            self._rows[key] = own
            self.bytes_in_use += _cost(key, own)
            while self.bytes_in_use > self._max_bytes:
                self.bytes_in_use -= _cost(*self._rows.popitem(last=False))


def _cost(key: str, row: Vectors) -> int:
    return len(key.encode("utf-8", "surrogatepass")) + int(row.nbytes) + ENTRY_OVERHEAD_BYTES
