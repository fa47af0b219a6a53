import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcm.errors import InvalidInput
from mcm.evaluation.tables import PIECE, open_table

ROWS: list[dict[str, Any]] = [
    {"name": "a.png", "score": 0.25, "error": None, "definition_hash": "h"},
    {"name": "b.png", "score": None, "error": "truncated", "definition_hash": "h"},
    {"name": None, "score": 1e-300, "error": None, "definition_hash": "h"},
]
VECTORS: list[dict[str, Any]] = [
    {"name": "a.png", "embedding": [1.0, 0.5], "error": None, "fingerprint": "f"},
    {"name": "b.png", "embedding": None, "error": "truncated", "fingerprint": "f"},
    {"name": "c.png", "embedding": [0.0, -1.0], "error": None, "fingerprint": "f"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".CSV"])
def test_a_table_of_scores(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"x{suffix.lower()}", ROWS).rename(tmp_path / f"y{suffix}")
    table = open_table(path)
    (piece,) = table.pieces()
    assert table.kind == "score"
    assert piece.values.tolist() == [0.25, 1e-300]
    assert piece.values.dtype == np.float64
    assert piece.names == ["a.png", "row 3"]
    assert piece.failures == [("b.png", "truncated")]
    assert piece.marks == {"h"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_table_of_embeddings(tmp_path: Path, suffix: str) -> None:
    rows = [r | {"embedding": json.dumps(r["embedding"])} for r in VECTORS] if suffix == ".csv" else VECTORS
    table = open_table(write(tmp_path / f"x{suffix}", rows))
    (piece,) = table.pieces()
    assert table.kind == "embedding"
    assert piece.values.tolist() == [[1, 0.5], [0, -1]]
    assert piece.values.dtype == np.float32
    assert piece.names == ["a.png", "c.png"]
    assert piece.failures == [("b.png", "truncated")]
    assert piece.marks == {"f"}


NUMBER = pa.field("item", pa.float32(), nullable=False)


@pytest.mark.parametrize("lists", [pa.list_(NUMBER), pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_lists_of_numbers_of_any_kind_are_embeddings(tmp_path: Path, lists: pa.DataType) -> None:
    """`mcm embed` writes the first, wrote the second once; others come from elsewhere."""
    column = pa.array([[1, 0.5], None, [0, -1]], lists)
    pq.write_table(pa.table({"embedding": column}), tmp_path / "x.parquet")
    (piece,) = open_table(tmp_path / "x.parquet").pieces()
    assert piece.values.tolist() == [[1, 0.5], [0, -1]]
    assert piece.failures == [("row 2", "there is no value")]


def test_an_embedding_without_one_of_its_numbers_fails_alone(tmp_path: Path) -> None:
    column = pa.array([[1, 0.5], [0.5, None]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": column}), tmp_path / "x.parquet")
    (piece,) = open_table(tmp_path / "x.parquet").pieces()
    assert piece.values.tolist() == [[1, 0.5]]
    assert piece.failures == [("row 2", "the embedding is zero or not finite")]


def test_a_csv_with_a_column_for_each_number(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("name,e0,e1\na.png,1,0.5\nb.png,0,-1\n")
    (piece,) = open_table(path).pieces()
    assert piece.values.tolist() == [[1, 0.5], [0, -1]]
    assert piece.marks == frozenset()


def test_rows_come_in_bounded_pieces_and_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"score": np.arange(PIECE + 5.0)}), path)
    first, second = open_table(path).pieces()
    assert len(first.values) == PIECE
    assert second.names[0] == f"row {PIECE + 1}"
    assert second.values.tolist() == [PIECE, PIECE + 1, PIECE + 2, PIECE + 3, PIECE + 4]


def test_an_embedding_that_points_nowhere_fails_alone(tmp_path: Path) -> None:
    rows = [[1.0, 0.0], [0.0, 0.0], [float("nan"), 1.0], [0.0, 2.0]]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"embedding": rows}), path)
    (piece,) = open_table(path).pieces()
    assert piece.values.tolist() == [[1, 0], [0, 2]]
    assert piece.names == ["row 1", "row 4"]
    assert [name for name, _ in piece.failures] == ["row 2", "row 3"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_encoder_that_a_table_names(tmp_path: Path, suffix: str) -> None:
    named = [row | {"encoder": "ViT-B-16/openai"} for row in VECTORS]
    assert open_table(write(tmp_path / f"x{suffix}", named)).encoder_name() == "ViT-B-16/openai"
    assert open_table(write(tmp_path / f"y{suffix}", VECTORS)).encoder_name() is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "score\n0.5\nhigh\n", r"row 2: the score is no number"),
        ("x.jsonl", '{"score": 1}\n{"score": [1]}\n', r"row 2: the score is no number"),
        ("x.jsonl", '{"score": 1}\n{"scor', r"line 2, is not JSON"),
        ("x.jsonl", '{"embedding": [1, 2]}\n{"embedding": [1]}\n', "different lengths"),
        ("x.jsonl", '{"embedding": [[1]]}\n', "row 1: the embedding is no list of numbers"),
        ("x.csv", 'embedding\n"[1, 2"\n', "row 1: the embedding is no list of numbers"),
        ("x.csv", "name,e0,e1\na.png,1\n", "row 1: the embedding is no list of numbers"),
        ("x.csv", "name,error\n", "neither a column `score` nor `embedding`; its columns: name, error"),
        ("x.jsonl", "", "its columns: none"),
        ("x.jsonl", "[1]\n", "line 1, must be an object"),
        ("x.parquet", "PAR1", "is not a Parquet file"),
        ("x.txt", "0.5\n", "is no folder of images and no table: let its name end in .parquet, .csv, .jsonl"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name_and_row(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=name) as refused:
        list(open_table(tmp_path / name).pieces())
    assert reason in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no .*x\.csv"):
        open_table(tmp_path / "x.csv")


def test_parquet_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for column in (pa.array(["high"]), pa.array([[1.0]])):
        pq.write_table(pa.table({"score": column}), path)
        with pytest.raises(InvalidInput, match="does not hold numbers"):
            list(open_table(path).pieces())
    pq.write_table(pa.table({"embedding": pa.array([[1.0], [1.0, 2.0]])}), path)
    with pytest.raises(InvalidInput, match="different lengths"):
        list(open_table(path).pieces())
