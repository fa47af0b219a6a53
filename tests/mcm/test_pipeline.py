"""Many images through an encoder, with no server."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcm.embeddings import Vectors
from mcm.encoders import Pixels
from mcm.errors import (
    BrokenImage,
    EncoderError,
    ImageError,
    ImageTooLarge,
    InvalidInput,
    McmError,
    NoPatches,
    UnsupportedImage,
)
from mcm.images import ImageLimits, load_image
from mcm.pipeline import Embedded, Source, embed_images, image_files, prepare_image
from tests import pictures
from tests.fakes import POISON, ColourEncoder, PatchColourEncoder
from tests.shared import shared

RED, GREEN, BLUE = map(pictures.plain, ("red", "lime", "blue"))
POISONED = pictures.plain(POISON)


def kinds(results: list[Embedded]) -> list[type[McmError] | None]:
    return [None if result.error is None else type(result.error) for result in results]


def alone(encoder: ColourEncoder, data: bytes) -> Vectors:
    (row,) = encoder.encode_images(prepare_image(data, encoder)[None])
    return np.asarray(row)


# ---- one answer for each source, in order


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 200])
def test_answers_come_in_order_whatever_the_batches(n: int, batch_size: int) -> None:
    encoder = ColourEncoder()
    files = [(RED, GREEN, BLUE)[i % 3] for i in range(n)]
    results = list(embed_images(encoder, files, batch_size=batch_size, threads=3))
    assert [result.index for result in results] == list(range(n))
    for file, result in zip(files, results, strict=True):
        assert result.error is None
        assert result.embedding is not None
        assert result.embedding.tolist() == alone(encoder, file).tolist()


def test_batches_are_full_while_images_last() -> None:
    encoder = ColourEncoder()
    list(embed_images(encoder, [RED] * 10, batch_size=4))
    assert encoder.batches == [4, 4, 2]


def test_a_bad_image_stands_in_its_own_place_and_is_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(pictures.truncated(pictures.encode(pictures.noise(), "JPEG")))
    sources: list[Source | Path | bytes] = [
        RED,
        GREEN,
        cut,
        b"",
        Source("page.jpg", lambda: pictures.HTML),
        BLUE,
    ]
    results = list(embed_images(ColourEncoder(), sources, batch_size=4))
    assert kinds(results) == [None, None, BrokenImage, UnsupportedImage, UnsupportedImage, None]
    assert [result.name for result in results][2:5] == [str(cut), "image 3", "page.jpg"]
    assert [result.embedding is None for result in results] == [False, False, True, True, True, False]


def test_patches_come_with_the_embeddings_where_they_are_asked_for() -> None:
    encoder = PatchColourEncoder()
    results = list(embed_images(encoder, [RED, b"", BLUE], batch_size=2, patches=True))
    assert kinds(results) == [None, UnsupportedImage, None]
    assert (encoder.batches, encoder.patch_batches) == ([], [1, 1])  # one forward for both
    for result, data in zip(results[::2], (RED, BLUE), strict=True):
        assert result.embedding is not None
        assert result.patches is not None
        assert result.embedding.tolist() == alone(encoder, data).tolist()
        assert result.patches.shape == (2, 2, encoder.dim)
        np.testing.assert_allclose(result.patches, np.broadcast_to(result.embedding, (2, 2, 16)), atol=1e-6)


def test_nobody_pays_for_patches_without_asking() -> None:
    encoder = PatchColourEncoder()
    assert [result.patches for result in embed_images(encoder, [RED, BLUE])] == [None, None]
    assert encoder.patch_batches == []


def test_patches_of_an_encoder_that_gives_none_are_refused() -> None:
    with pytest.raises(NoPatches, match="the encoder colours"):
        list(embed_images(ColourEncoder(), [RED], patches=True))


def test_files_that_cannot_be_read_are_errors_in_their_places(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    good.write_bytes(RED)
    sources = [tmp_path / "missing.jpg", good, tmp_path]
    results = list(embed_images(ColourEncoder(), sources))
    assert kinds(results) == [ImageError, None, ImageError]
    assert "No such file" in str(results[0].error)
    assert "directory" in str(results[2].error)


def test_a_source_may_raise_an_error_of_ours_for_itself() -> None:
    def read() -> bytes:
        raise ImageTooLarge("refused by the source")

    results = list(embed_images(ColourEncoder(), [Source("a", read), RED]))
    assert kinds(results) == [ImageTooLarge, None]


def test_a_bug_in_a_source_goes_through() -> None:
    def read() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(embed_images(ColourEncoder(), [Source("a", read)]))


def test_all_bad_images_need_no_forward() -> None:
    encoder = ColourEncoder()
    assert kinds(list(embed_images(encoder, [b"", b"x"]))) == [UnsupportedImage] * 2
    assert encoder.batches == []


def test_only_the_image_that_makes_the_encoder_fail_fails() -> None:
    results = list(embed_images(ColourEncoder(), [RED, POISONED, GREEN, b"", BLUE], batch_size=5))
    assert kinds(results) == [None, EncoderError, None, UnsupportedImage, None]


def test_the_limits_hold(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(pictures.plain("red", (40, 40)))
    results = list(embed_images(ColourEncoder(), [large, RED], limits=ImageLimits(max_pixels=1599)))
    assert kinds(results) == [ImageTooLarge, None]


def test_a_file_with_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    sparse = tmp_path / "film.jpg"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    (result,) = embed_images(ColourEncoder(), [sparse])
    assert isinstance(result.error, ImageTooLarge)
    assert "1,099,511,627,776 bytes" in str(result.error)


def test_a_device_without_end_is_too_large() -> None:
    (result,) = embed_images(ColourEncoder(), [Path("/dev/zero")], limits=ImageLimits(max_bytes=1000))
    assert isinstance(result.error, ImageTooLarge)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"threads": 0}, {"threads": -1}])
def test_sizes_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        list(embed_images(ColourEncoder(), [RED], **options))  # type: ignore[arg-type]


def test_photographs_are_embedded_as_one_by_one() -> None:
    encoder = ColourEncoder()
    paths = sorted(shared("images").glob("*.jpg"))[:70]
    results = list(embed_images(encoder, paths, batch_size=16))
    for path, result in zip(paths, results, strict=True):
        assert result.name == str(path)
        assert result.embedding is not None
        assert np.array_equal(result.embedding, alone(encoder, path.read_bytes()))


# ---- preparing one image


class Stubborn(ColourEncoder):
    """Cannot prepare a white image, and prepares a black one wrongly."""

    def prepare(self, image: Image.Image) -> Pixels:
        if image.getpixel((0, 0)) == (255, 255, 255):
            raise ValueError("height and width must be > 0")
        return (
            super().prepare(image)[:, 1:] if image.getpixel((0, 0)) == (0, 0, 0) else super().prepare(image)
        )


def test_what_the_encoder_cannot_prepare_fails_alone() -> None:
    sources = [RED, pictures.plain("white"), pictures.plain("black"), GREEN]
    results = list(embed_images(Stubborn(), sources))
    assert kinds(results) == [None, BrokenImage, EncoderError, None]
    assert "16 x 16 pixels cannot be prepared" in str(results[1].error)


def test_prepared_pixels_are_those_of_the_loaded_image() -> None:
    encoder = ColourEncoder()
    file = pictures.turned(6)
    assert np.array_equal(prepare_image(file, encoder), encoder.prepare(load_image(file)))


# ---- lazily, with bounded memory, and leaving nothing behind


def test_sources_are_consumed_a_few_batches_ahead_only() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield RED

    results = embed_images(ColourEncoder(), endless(), batch_size=4)
    for n in range(1, 101):
        next(results)
        assert taken <= n + 16
    results.close()  # type: ignore[attr-defined]


def test_images_are_decoded_while_the_encoder_works() -> None:
    encoder = ColourEncoder()
    encoder.gate.clear()
    read_later = threading.Event()

    def later() -> bytes:
        read_later.set()
        return GREEN

    sources = [Source("first", lambda: RED)] * 2 + [Source("later", later)] * 20
    results: list[Embedded] = []
    consumer = threading.Thread(target=lambda: results.extend(embed_images(encoder, sources, batch_size=2)))
    consumer.start()
    assert encoder.entered.wait(10)
    assert read_later.wait(10)  # the forward has not ended: its gate is shut
    assert results == []
    encoder.gate.set()
    consumer.join(10)
    assert len(results) == 22


def test_closing_drops_what_waits() -> None:
    started, release = threading.Semaphore(0), threading.Event()
    ended: list[int] = []

    def slow() -> bytes:
        started.release()
        release.wait(10)
        ended.append(1)
        return RED

    sources = [Source("first", lambda: RED)] + [Source("slow", slow)] * 50
    results = embed_images(ColourEncoder(), sources, batch_size=1, threads=1)
    assert next(results).name == "first"
    assert started.acquire(timeout=10)
    results.close()  # type: ignore[attr-defined]
    assert ended == []  # it did not wait for the read that is stuck
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("mcm-decode"):
            thread.join(10)
    assert ended == [1]


def test_an_interrupt_in_the_encoder_leaves_no_threads() -> None:
    class Interrupted(ColourEncoder):
        def encode_images(self, pixels: Pixels) -> Vectors:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(embed_images(Interrupted(), [RED] * 1000, batch_size=2))
    for thread in threading.enumerate():
        if thread.name.startswith("mcm-decode"):
            thread.join(10)
            assert not thread.is_alive()


# ---- which files


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folders_are_walked_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.JPG", "a.jpeg", "c.webp", "b/deep/x.TIFF", "z.heic"]
    touch(*(tmp_path / name for name in names))
    found = [str(path.relative_to(tmp_path)) for path in image_files([tmp_path])]
    assert found == ["a.jpeg", "b/10.JPG", "b/2.png", "b/deep/x.TIFF", "c.webp", "z.heic"]


def test_in_folders_only_images_count(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in ["labels.json", "a.txt", "jpg", ".hidden.jpg", "._a.jpg", ".git/x.png"])
    )
    touch(tmp_path / "folder.jpg" / "notes.md", tmp_path / "a.jpg")
    assert list(image_files([tmp_path])) == [tmp_path / "a.jpg"]


def test_files_that_are_named_are_always_taken(tmp_path: Path) -> None:
    touch(tmp_path / "data.bin")
    named = [tmp_path / "data.bin", tmp_path / "missing.jpg"]
    assert list(image_files([str(path) for path in named])) == named


def test_good_and_missing_files_are_told_apart_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    paths = image_files([tmp_path / "a.png", tmp_path / "missing.jpg", tmp_path])
    assert kinds(list(embed_images(ColourEncoder(), paths))) == [None, ImageError, None]


def test_links_to_folders_are_not_followed_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "again.jpg").symlink_to(tmp_path)
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = [path.name for path in image_files([tmp_path])]
    assert found == ["a.jpg", "linked.jpg", "lost.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_pipes_in_folders_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list(image_files([tmp_path])) == []


def test_files_are_found_lazily(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg")
    files = image_files([tmp_path / "a", tmp_path / "later"])
    assert next(files) == tmp_path / "a" / "1.jpg"
    touch(tmp_path / "later" / "2.jpg")
    assert next(files) == tmp_path / "later" / "2.jpg"
