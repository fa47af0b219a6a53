from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcm.errors import BrokenImage, InvalidInput
from mcm.evaluation.store import ROWS, ImageFile, Store, image_file, keep_missing
from mcm.pipeline import Embedded


class Embedder:
    """Embeds a file by its number; `broken` ones fail, and it stops after `until` files. Counts its work."""

    def __init__(self, *, broken: Iterable[str] = (), until: int | None = None) -> None:
        self.broken, self.until, self.seen = set(broken), until, list[str]()

    def __call__(self, paths: Iterable[Path]) -> Iterator[Embedded]:
        for index, path in enumerate(paths):
            if index == self.until:
                raise KeyboardInterrupt
            self.seen.append(path.name)
            if path.name in self.broken:
                yield Embedded(index, str(path), None, BrokenImage("truncated"))
            else:
                yield Embedded(index, str(path), np.array([float(path.stem), 1], dtype=np.float32), None)


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(b"x" * number)
    return [image_file(folder / f"{number}.png", folder) for number in range(10)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "colours", "f")


def keep(store: Store, files: list[ImageFile], embed: Embedder) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    keep_missing(store, files, embed, watch=lambda done, total: seen.append((done, total)))
    return seen


def kept(store: Store, files: list[ImageFile]) -> tuple[list[str], list[float], list[tuple[str, str]]]:
    pieces = list(store.pieces({file.identity for file in files}))
    return (
        [name for piece in pieces for name in piece.names],
        [float(row[0]) for piece in pieces for row in piece.embeddings],
        [failure for piece in pieces for failure in piece.failures],
    )


def test_what_is_kept_comes_back_in_order(store: Store, files: list[ImageFile]) -> None:
    assert keep(store, files, Embedder()) == [(done, 10) for done in range(11)]
    assert kept(store, files) == ([f"{i}.png" for i in range(10)], [float(i) for i in range(10)], [])


def test_a_stopped_run_goes_on_where_it_was(store: Store, files: list[ImageFile]) -> None:
    with pytest.raises(KeyboardInterrupt):
        keep(store, files, Embedder(until=6))
    second = Embedder()
    assert keep(store, files, second)[0] == (6, 10)
    assert second.seen == ["6.png", "7.png", "8.png", "9.png"]
    assert kept(store, files)[1] == [float(i) for i in range(10)]


def test_a_run_goes_on_from_parts_whose_numbers_may_be_null_as_they_once_were(
    store: Store, files: list[ImageFile]
) -> None:
    keep(store, files[:6], Embedder())
    (part,) = store.folder.glob("part-*.parquet")
    table = pq.read_table(part)
    place = table.schema.get_field_index("embedding")
    pq.write_table(
        table.set_column(place, "embedding", table["embedding"].cast(pa.list_(pa.float32()))), part
    )
    second = Embedder()
    keep(Store(store.folder, "colours", "f"), files, second)
    assert second.seen == ["6.png", "7.png", "8.png", "9.png"]
    assert kept(store, files)[1] == [float(i) for i in range(10)]


def test_a_killed_run_loses_one_part_at_most(store: Store, files: list[ImageFile]) -> None:
    many = [ImageFile(f"{i}.png", Path(f"{i}.png"), i, i) for i in range(ROWS + 10)]
    adding = store.add(zip(many, Embedder()(file.path for file in many), strict=True))
    for _ in range(ROWS + 5):
        next(adding)
    assert len(store.done()) == ROWS  # before the generator could write what it has at hand
    adding.close()
    assert len(store.done()) == ROWS + 5


def test_a_changed_file_is_embedded_again_and_a_deleted_one_left_out(
    store: Store, files: list[ImageFile]
) -> None:
    keep(store, files, Embedder())
    files[3].path.write_bytes(b"something else")
    changed = [image_file(file.path, file.path.parent) for file in files[:5]]
    second = Embedder()
    keep(store, changed, second)
    assert second.seen == ["3.png"]
    assert sorted(kept(store, changed)[0]) == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_an_image_with_an_error_is_tried_again_and_told_once(store: Store, files: list[ImageFile]) -> None:
    for _ in range(2):
        again = Embedder(broken=["4.png", "7.png"])
        keep(store, files, again)
    assert again.seen == ["4.png", "7.png"]
    assert kept(store, files)[2] == [("4.png", "truncated"), ("7.png", "truncated")]
    keep(store, files, Embedder(broken=["4.png"]))
    names, _, failures = kept(store, files)
    assert "7.png" in names
    assert failures == [("4.png", "truncated")]


def test_numbers_beside_the_embeddings_are_kept(store: Store, files: list[ImageFile]) -> None:
    keep_missing(store, files, Embedder(broken=["1.png"]), local=lambda _: [0.5, 0.25], watch=lambda *_: None)
    (piece,) = store.pieces({file.identity for file in files})
    assert piece.local.tolist() == [[0.5, 0.25]] * 9


def test_embeddings_of_another_encoder_are_not_mixed(store: Store, files: list[ImageFile]) -> None:
    keep(store, files, Embedder())
    with pytest.raises(InvalidInput, match="another encoder"):
        Store(store.folder, "colours", "g")


def test_names_that_are_not_utf_8_are_kept(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "1\udcff.png"
    path.touch()
    file = image_file(path, tmp_path)
    store_rows = [Embedded(0, "x", np.ones(2, dtype=np.float32), None)]
    list(store.add([(file, store_rows[0])]))
    assert kept(store, [file])[0] == ["1\\udcff.png"]
    assert store.done() == {file.identity}
