"""Many embeddings against many concepts, from a Parquet file: `python -m benchmarks.matrix`.

What `mcm evaluate` does with a table of embeddings (read, multiply, score with mcm), against the bare matrix
product: as many rows that lie in memory, float32, all cores, and nothing else. The bar: at most 1.5 times as
long, in memory that does not grow with the rows but for 8 bytes a score. 1,000,000 rows of 512 numbers make
a file of 2 GB.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mcm import Detector, define, unit_rows
from mcm.cli.embed import COLUMNS
from mcm.cli.files import rows_file
from mcm.embeddings import Vectors
from mcm.evaluation import DataSet
from mcm.evaluation.data_sets import Work, score_set
from mcm.evaluation.tables import PIECE

DIM = 512
BAR = 1.5
RUNS = 3


def random_rows(n: int, seed: int) -> Vectors:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32))


def write(path: Path, rows: int) -> None:
    """A table as `mcm embed` writes it, of random embeddings."""
    with rows_file(path, COLUMNS) as add:
        for start in range(0, rows, PIECE):
            for i, vector in enumerate(random_rows(min(PIECE, rows - start), start), start):
                row = {"name": f"images/{i}.jpg", "embedding": vector, "error": None}
                add(row | {"encoder": "random", "fingerprint": "f"})


def bare(rows: int, concepts: Vectors) -> Callable[[], None]:
    """The product alone, of blocks in turns that are too many for a processor's cache."""
    blocks, transposed = [random_rows(PIECE, seed) for seed in range(8)], concepts.T

    def multiply() -> None:
        for i, start in enumerate(range(0, rows, PIECE)):
            blocks[i % 8][: rows - start] @ transposed

    return multiply


def score(path: Path, detector: Detector) -> None:
    """Read and score all rows."""
    work = Work([detector], encoder=None, folder=None, read=None, watch=lambda *_: None)
    score_set(DataSet("random", path), 1, work)


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--concepts", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, help="where the table is written; default: a temporary folder")
    options = parser.parse_args()
    concepts = random_rows(options.concepts, 1)
    detector = Detector(define([f"concept {i}" for i in range(options.concepts)]), "f", concepts)
    with TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "embeddings.parquet"
        writer = get_context("spawn").Process(target=write, args=(path, options.rows))
        writer.start()  # elsewhere, so that its memory is not counted
        writer.join()
        print(
            f"{options.rows:,} x {options.concepts:,}, {DIM} numbers, {path.stat().st_size / 1e9:.2f} GB, ",
            end="",
        )
        print(f"{os.cpu_count()} cores")
        product, before = bare(options.rows, concepts), peak_mb()
        # In turns, so that what else the machine does meets both.
        times = [(seconds(product), seconds(lambda: score(path, detector))) for _ in range(RUNS)]
    alone, all_ = (min(column) for column in zip(*times, strict=True))
    print(f"bare product            {alone:8.2f} s")
    print(f"read, multiply, score   {all_:8.2f} s   {all_ / alone:.2f} x (bar {BAR})")
    print(f"peak memory             {peak_mb():8.0f} MB, {peak_mb() - before:.0f} MB of it for scoring")
    sys.exit(all_ > BAR * alone)


if __name__ == "__main__":
    main()
