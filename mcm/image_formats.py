"""What the bytes of an image file say before anything is decoded: format, claimed size, orientation."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcm.errors import BrokenImage

READ_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".avifs",
        ".heic",
        ".heics",
        ".heif",
        ".heifs",
        ".hif",
    ]
)

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0\x10\0\0\0CR", "Canon raw (CR2)"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"v/1\x01", "OpenEXR"),
    (b"icns", "ICNS"),
    (b"gimp xcf", "XCF"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw (RAF)"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"})
_TEXT_START = 1024
_NETPBM = re.compile(rb"P[1-7fF]\s")

_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COMMENT = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})  # nothing follows these, not even a length
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MAX_JPEG_SEGMENTS = 10_000  # photographs have tens, and hundreds with a large ICC or MPF block
_MAX_JPEG_TABLES = 2**20  # a few hundred bytes as a rule, and a thumbnail of 64 kB with the JFIF mark

_GIF_BLOCK = re.compile(rb"[,!;]")
_GRAPHIC_CONTROL = 0xF9
_MAX_GIF_BLOCKS = 50_000  # of 255 bytes at most: ten MB of comments and XMP


def sniff(data: bytes) -> str | None:
    """The format of a file by its bytes, one of READ_FORMATS or the name of another; None if unknown."""
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else None
    if data[4:8] == b"ftyp":
        return _sniff_brands(data)
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    return "Netpbm" if _NETPBM.match(data) else _sniff_text(data[:_TEXT_START])


def _sniff_brands(data: bytes) -> str:
    """AVIF, HEIC and films are all ISO base media files, and name their kinds in the first box."""
    length = min(max(int.from_bytes(data[:4]), 12), 256)
    brands = {data[at : at + 4] for at in range(8, length, 4) if at != 12}  # at 12 stands a version
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else "MP4 or QuickTime video"


def _sniff_text(start: bytes) -> str | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if b"<svg" in text:
        return "SVG"
    return "HTML" if b"<html" in text or b"<!doctype html" in text else "XML"


class BareGif(NamedTuple):
    """A GIF whose first frame comes at once; width and height hold the screen and that frame."""

    data: bytes
    size: tuple[int, int]


def bare_gif(data: bytes) -> BareGif:
    """Drop what a GIF holds before its first frame, but for the palette and the last graphic control.

    A decoder that walks through comments, other extensions and stray bytes one by one could be kept busy
    for minutes by a file that holds nothing else.

    Raises:
        BrokenImage: no frame, or too many blocks before it.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        head = 13 + _palette_bytes(flags)
        control, frame = _gif_frame(data, head)
        left, top, frame_width, frame_height = struct.unpack_from("<4H", data, frame + 1)
    except (struct.error, IndexError):
        raise BrokenImage("the GIF ends before its first frame; send it again, or another") from None
    size = max(width, left + frame_width), max(height, top + frame_height)
    return BareGif(data[:head] + control + data[frame:], size)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_frame(data: bytes, at: int) -> tuple[bytes, int]:
    """The last graphic control extension before the first frame, and where that frame begins."""
    control, steps = b"", iter(range(_MAX_GIF_BLOCKS))
    for _ in steps:
        found = _GIF_BLOCK.search(data, at)
        if found is None or found[0] == b";":
            raise BrokenImage("the GIF has no frame; send it again, or another")
        if found[0] == b",":
            return control, found.start()
        at = _after_sub_blocks(data, found.start() + 2, steps)
        if data[found.start() + 1] == _GRAPHIC_CONTROL:
            control = data[found.start() : at]
    raise _too_many_gif_blocks()


def _after_sub_blocks(data: bytes, at: int, steps: Iterator[int]) -> int:
    for _ in steps:
        length = data[at]
        at += 1 + length
        if not length:
            return at
    raise _too_many_gif_blocks()


def _too_many_gif_blocks() -> BrokenImage:
    return BrokenImage(
        f"the GIF has more than {_MAX_GIF_BLOCKS:,} blocks before its first frame; save it again as PNG"
    )


class BareJpeg(NamedTuple):
    """A JPEG without its metadata, the EXIF block that was in it, and how many scans it has at most."""

    data: bytes
    exif: bytes
    scans: int


def bare_jpeg(data: bytes) -> BareJpeg:
    """Drop what a JPEG holds before its pixels and does not bear on them.

    That is all APPn segments but JFIF and Adobe, comments, and stray bytes. Photographs with slightly wrong
    EXIF, MPO or ICC blocks are common, and their pixels are sound: a decoder that never sees those blocks
    can neither stumble over them, nor warn about them, nor be kept busy by a million of them.

    Raises:
        BrokenImage: no pixels, or too many segments or bytes of tables before them.
    """
    kept, exif, at = [data[:2]], b"", 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None or found[0][1] in (_SOI, _EOI):
            raise BrokenImage("the JPEG ends before its pixels; send it again, or another")
        marker, start = found[0][1], found.start()
        if marker == _SOS:
            if sum(map(len, kept)) > _MAX_JPEG_TABLES:
                raise BrokenImage(
                    f"the JPEG has more than {_MAX_JPEG_TABLES:,} bytes of tables; save it again"
                )
            bare = b"".join((*kept, data[start:]))
            return BareJpeg(bare, exif, bare.count(b"\xff\xda"))
        at = start + 2 + (0 if marker in _BARE_MARKERS else int.from_bytes(data[start + 2 : start + 4]))
        if marker == _APP1 and data[start + 4 : start + 10] == _EXIF and not exif:
            exif = data[start + 4 : at]
        if not _is_dropped(marker):
            kept.append(data[start:at])
    raise BrokenImage(
        f"the JPEG has more than {_MAX_JPEG_SEGMENTS:,} segments before its pixels; save it again"
    )


def _is_dropped(marker: int) -> bool:
    if marker in (_APP0, _APP14):
        return False
    return _APP0 <= marker <= _APP15 or marker == _COMMENT or marker in _BARE_MARKERS


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, that an EXIF block tells; 1 where it tells none or is damaged."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if (tag, kind, count) == (_ORIENTATION_TAG, 3, 1):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
