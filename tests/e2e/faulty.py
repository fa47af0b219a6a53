"""`python -m tests.e2e.faulty`: the real service with a colour encoder that misbehaves on command.

MCM_TEST_FAULT is a file that is read at every forward and every use of the store; see `FAULTS` for what may
stand in it, and `Faults` for writing it. MCM_TEST_LOAD is a FIFO: where it is set, loading the encoder waits
until somebody has opened it for writing and closed it. MCM_TEST_HURRY is how many
seconds `app.connection` waits for what clients owe it. MCM_TEST_GATE is as in `tests.serve_colours`.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import Pool

import app.main
from app import connection
from app.__main__ import leave, main
from app.engine.calls import Inbox
from app.settings import Settings
from mcm.embeddings import Vectors
from mcm.encoders import Encoder, Pixels
from tests.serve_colours import TestEncoder

COMMAND = (sys.executable, "-m", "tests.e2e.faulty")
MEMORY_FOR = 3  # images that "memory" leaves room for
SLOW_S = 0.02  # for one image

Rows = Callable[[], Vectors]


class Faults:
    """The file that tells the encoder how to misbehave; "" is none."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set("")

    def set(self, fault: str) -> None:
        self.file.write_text(fault)


def raise_always(_: Rows, __: int) -> NoReturn:
    raise RuntimeError("secret: the device is gone")


def raise_once(_: Rows, __: int) -> NoReturn:
    _write("")
    raise RuntimeError("secret: the device has hiccups")


def out_of_memory(rows: Rows, count: int) -> Vectors:
    if count > MEMORY_FOR:
        raise MemoryError
    return rows()


def device_out_of_memory(rows: Rows, count: int) -> Vectors:
    if count > MEMORY_FOR:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    return rows()


def nan_rows(rows: Rows, _: int) -> Vectors:
    """The first row is no number."""
    found = rows().copy()
    found[0] = np.nan
    return found


def slow(rows: Rows, count: int) -> Vectors:
    time.sleep(count * SLOW_S)
    return rows()


def panic(_: Rows, __: int) -> NoReturn:
    """What no encoder may raise; the engine takes it for a bug of its own."""
    raise SystemExit("secret")


def die(_: Rows, __: int) -> NoReturn:
    """A bug that the engine cannot contain: neither the jobs nor the inboxes can be read any more."""

    def broken(*_: object) -> NoReturn:
        raise IndexError("secret: a bug that cannot be contained")

    for name in ("take", "drain"):
        setattr(Inbox, name, broken)
    raise SystemExit


FAULTS: dict[str, Callable[[Rows, int], Vectors]] = {
    "raise": raise_always,
    "raise once": raise_once,
    "memory": out_of_memory,
    "device memory": device_out_of_memory,
    "more rows": lambda rows, _: np.concatenate([rows(), rows()]),
    "fewer rows": lambda rows, _: rows()[1:],
    "nan": nan_rows,
    "slow": slow,
    "panic": panic,
    "die": die,
}


class FaultyEncoder(TestEncoder):
    """The colour encoder, misbehaving on images as the file says."""

    def encode_images(self, pixels: Pixels) -> Vectors:
        def rows() -> Vectors:
            return super(FaultyEncoder, self).encode_images(pixels)

        fault = FAULTS.get(_read())
        return fault(rows, len(pixels)) if fault else rows()


def _file() -> Path:
    return Path(os.environ["MCM_TEST_FAULT"])


def _read() -> str:
    return _file().read_text() if "MCM_TEST_FAULT" in os.environ else ""


def _write(text: str) -> None:
    _file().write_text(text)


def _load(settings: Settings) -> Encoder:
    Path(os.environ["MCM_TEST_LOAD"]).read_bytes()
    return FaultyEncoder()


@event.listens_for(Pool, "checkout")
def _make_read_only(database: DBAPIConnection, *_: object) -> None:
    """With the fault "read-only" the database refuses writes as one on a read-only disk does."""
    cursor = database.cursor()
    cursor.execute(f"PRAGMA query_only = {int(_read() == 'read-only')}")
    cursor.close()


if __name__ == "__main__":
    if hurry := os.environ.get("MCM_TEST_HURRY"):
        connection.HEAD_S = connection.DRAIN_S = connection.ANSWER_S = float(hurry)
    if "MCM_TEST_LOAD" in os.environ:
        app.main.load = _load
        leave(main())
    leave(main(FaultyEncoder()))
