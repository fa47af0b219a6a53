"""Many images -> embeddings, with no server: reading and decoding overlap the encoder, memory is bounded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from mcm.embeddings import Vectors
from mcm.encoders import Encoder, Pixels, require_patches
from mcm.errors import BrokenImage, EncoderError, ImageError, ImageTooLarge, InvalidInput, McmError
from mcm.image_formats import SUFFIXES
from mcm.images import DEFAULT_LIMITS, ImageLimits, load_image
from mcm.isolation import encode_isolating, encode_patches_isolating

DEFAULT_BATCH_SIZE = 32
_Outcome = Vectors | tuple[Vectors, Vectors] | McmError  # an embedding, alone or with patches
_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Source:
    """Where one image comes from: a name for people, and how to read its bytes (called in a thread)."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embedding (dim,) of the image at place `index`, or why there is none.

    `patches` (rows, columns, dim) are there where they were asked for.
    """

    index: int
    name: str
    embedding: Vectors | None
    error: McmError | None
    patches: Vectors | None = None


def embed_images(
    encoder: Encoder,
    sources: Iterable[Source | Path | bytes],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    limits: ImageLimits = DEFAULT_LIMITS,
    threads: int | None = None,
    patches: bool = False,
) -> Iterator[Embedded]:
    """Embed images in the order of `sources`, one answer for each; bad ones carry their own error.

    `sources` is consumed lazily, a few batches ahead, so any number of images takes the same memory.
    Images are read, decoded and prepared in `threads` threads (one for each core by default) while the
    encoder works. Closing the iterator, or leaving it by an exception, drops the work that waits. With
    `patches`, each answer carries the image's patches, in hundreds of times the memory of its embedding: see
    `Detector.local`.

    What a source's `read` raises as OSError or McmError is the error of that image; anything else is a bug
    of the caller's and goes through.

    Raises:
        InvalidInput: `batch_size` or `threads` below 1.
        NoPatches: the encoder gives none, and `patches` asks for them.
    """
    if batch_size < 1 or (threads is not None and threads < 1):
        raise InvalidInput(f"batch_size and threads must be at least 1, not {batch_size} and {threads}")
    pool = ThreadPoolExecutor(threads or os.cpu_count(), thread_name_prefix="mcm-decode")
    prepare = partial(_read_and_prepare, encoder, limits)
    numbered = enumerate(_as_source(i, source, limits) for i, source in enumerate(sources))
    waiting: deque[_Waiting] = deque()

    def look_ahead() -> None:
        for index, source in islice(numbered, _BATCHES_AHEAD * batch_size - len(waiting)):
            waiting.append(_Waiting(index, source.name, pool.submit(prepare, source)))

    try:
        look_ahead()
        while waiting:
            batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
            prepared = [item.pixels.result() for item in batch]
            look_ahead()  # so that the threads have work while the encoder is busy
            for item, outcome in zip(batch, _encode(encoder, prepared, patches), strict=True):
                yield _embedded(item, outcome)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def prepare_image(data: bytes, encoder: Encoder, limits: ImageLimits = DEFAULT_LIMITS) -> Pixels:
    """An image file as the pixels (3, h, w) uint8 that the encoder takes. Thread-safe.

    Raises:
        ImageError: the file is no image that can be used.
        EncoderError: the encoder prepared something else than it promised.
    """
    image = load_image(data, limits)
    try:
        pixels = encoder.prepare(image)
    except McmError:
        raise
    except Exception as error:  # the transforms of other libraries, on images of any shape
        raise BrokenImage(
            f"the image of {image.width} x {image.height} pixels cannot be prepared for the encoder"
        ) from error
    side = encoder.image_size
    if pixels.shape != (3, side, side) or pixels.dtype != np.uint8:  # it would fail the batch that it joins
        raise EncoderError(
            f"the encoder prepared {pixels.dtype} {pixels.shape}, it promised uint8 (3, {side}, {side})"
        )
    return pixels


def image_files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The image files that `paths` name, lazily: folders are walked, files are taken as they are.

    In a folder, entries come sorted by name; only files with the suffix of an image format count, hidden
    entries and links to folders do not. A path that does not exist, or a folder that cannot be listed, is
    yielded too: reading it then fails in its own place, and the others are not harmed.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):  # not Path.is_dir, which raises where access is denied
            yield from _walk(path)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    waiting = [(folder, True)]
    while waiting:  # a stack, not recursion: folders may be nested deeper than Python calls may
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        try:
            waiting += reversed(_entries(path))
        except OSError:
            yield path


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """Sub-folders (True) and image files (False) of a folder, by name."""
    with os.scandir(folder) as entries:
        found = [
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.is_dir(follow_symlinks=False) or _is_image_file(entry))
        ]
    return [(folder / name, is_folder) for name, is_folder in sorted(found)]


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    """By its suffix. Never a pipe or a device; a link that leads nowhere is kept, to be told of."""
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
        return False
    return entry.is_file() or (entry.is_symlink() and not entry.is_dir())


@dataclass(frozen=True)
class _Waiting:
    index: int
    name: str
    pixels: "Future[Pixels | McmError]"


def _as_source(index: int, source: Source | Path | bytes, limits: ImageLimits) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, bytes):
        return Source(f"image {index}", lambda: source)
    return Source(str(source), partial(_read_file, source, limits))


def _read_file(path: Path, limits: ImageLimits) -> bytes:
    """The bytes of a file, unless they are too many: then it is not read at all."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_bytes:
            raise ImageTooLarge(f"the file has {size:,} bytes; the limit is {limits.max_bytes:,}")
        return file.read(limits.max_bytes + 1)  # devices and pipes have no size and may have no end


def _read_and_prepare(encoder: Encoder, limits: ImageLimits, source: Source) -> Pixels | McmError:
    try:
        return prepare_image(source.read(), encoder, limits)
    except McmError as error:
        return error
    except OSError as error:
        unreadable = ImageError(f"the file cannot be read: {error.strerror or error}")
        unreadable.__cause__ = error
        return unreadable


def _encode(encoder: Encoder, prepared: list[Pixels | McmError], patches: bool) -> Iterator[_Outcome]:
    """Embed what could be prepared; errors keep their places."""
    good = [pixels for pixels in prepared if not isinstance(pixels, McmError)]
    found: Iterator[_Outcome] = iter(_encode_good(encoder, np.stack(good), patches) if good else ())
    return (error if isinstance(error, McmError) else next(found) for error in prepared)


def _encode_good(encoder: Encoder, pixels: Pixels, patches: bool) -> Sequence[_Outcome]:
    if not patches:
        return encode_isolating(encoder.encode_images, pixels, encoder.dim)
    seeing = require_patches(encoder)
    return encode_patches_isolating(seeing.encode_patches, pixels, *seeing.patch_grid(), seeing.dim)


def _embedded(item: _Waiting, outcome: _Outcome) -> Embedded:
    if isinstance(outcome, McmError):
        return Embedded(item.index, item.name, None, outcome)
    if isinstance(outcome, tuple):
        return Embedded(item.index, item.name, outcome[0], None, outcome[1])
    return Embedded(item.index, item.name, outcome, None)
