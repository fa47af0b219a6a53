"""`python -m tests.serve_colours`: the real service with the colour encoder, for tests.

Four more variables than the service has: MCM_TEST_FINGERPRINT; MCM_TEST_PATCHES, none for an encoder that
gives no patches (and heeds no other of these variables); MCM_TEST_TEXTS, a file that gets every
encoded text as a line; MCM_TEST_GATE, a FIFO at which an image of the colour HOLD, or a text with the word
HOLD, waits until somebody has opened the FIFO for writing and closed it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.__main__ import leave, main
from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from tests.fakes import ColourEncoder, PatchColourEncoder

HOLD = (1, 2, 3)


class TestEncoder(PatchColourEncoder):
    """The colour encoder, told by the environment how to behave."""

    def __init__(self) -> None:
        super().__init__(os.environ.get("MCM_TEST_FINGERPRINT", "colours-1"))

    def encode_images(self, pixels: Pixels) -> Vectors:
        if any(tuple(image[:, 0, 0]) == HOLD for image in pixels):
            _wait_at_the_gate()
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if log := os.environ.get("MCM_TEST_TEXTS"):
            with Path(log).open("a") as file:
                file.writelines(f"{text}\n" for text in texts)
        if any("HOLD" in text for text in texts):
            _wait_at_the_gate()
        return super().encode_texts(texts)


@contextmanager
def held(gate: Path) -> Iterator[None]:
    """Wait until the encoder is at the gate; let it pass at the end of the block."""
    with gate.open("w"):
        yield


def _wait_at_the_gate() -> None:
    Path(os.environ["MCM_TEST_GATE"]).read_bytes()


if __name__ == "__main__":
    leave(main(ColourEncoder() if os.environ.get("MCM_TEST_PATCHES") == "none" else TestEncoder()))
