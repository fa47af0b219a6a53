"""What the bytes of an image file say before anything is decoded: format, claimed size, orientation."""

import re
import struct
from typing import NamedTuple

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
_SOS, _APP0, _APP1, _APP14, _APP15, _COMMENT = 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE


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


def gif_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that hold the screen and the first frame; None if the file ends before it."""
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + _palette_bytes(flags)
        while data[at] != ord(","):
            at = _after_extension(data, at) if data[at] == ord("!") else at + 1
        left, top, frame_width, frame_height = struct.unpack_from("<4H", data, at + 1)
    except (struct.error, IndexError):
        return None
    return max(width, left + frame_width), max(height, top + frame_height)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_extension(data: bytes, at: int) -> int:
    at += 2
    while length := data[at]:
        at += 1 + length
    return at + 1


class BareJpeg(NamedTuple):
    """A JPEG without its metadata, the EXIF block that was in it, and how many scans it has at most."""

    data: bytes
    exif: bytes
    scans: int


def bare_jpeg(data: bytes) -> BareJpeg:
    """Drop the segments of a JPEG that do not bear on its pixels (all APPn but JFIF and Adobe, comments).

    Photographs with slightly wrong EXIF, MPO or ICC blocks are common, and their pixels are sound: a
    decoder that never sees those blocks can neither stumble over them nor warn about them.
    """
    kept, exif, at = [data[:2]], b"", 2
    while data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == _SOS or not 0xC0 <= marker <= _COMMENT or 0xD0 <= marker <= 0xD9:
            break  # compressed data, or something odd: the decoder takes the rest as it is
        segment = data[at:end]
        if marker == _APP1 and segment[4:10] == _EXIF and not exif:
            exif = segment[4:]
        if marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COMMENT):
            kept.append(segment)
        at = end
    bare = b"".join((*kept, data[at:]))
    return BareJpeg(bare, exif, bare.count(b"\xff\xda"))


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
