"""Image files of all kinds, good and bad, made from nothing.

Every good file shows `scene()`: four plain quarters (red, green / blue, yellow) with white corners on the
red one, so that a turned, mirrored, clipped or wrongly converted picture is told from a right one.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (64, 48)
QUARTERS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """The picture that every good file shows, RGB; no two of its eight orientations look alike."""
    width, height = size
    image = Image.new("RGB", size)
    for place, colour in enumerate(QUARTERS.values()):
        quarter = Image.new("RGB", (width // 2, height // 2), colour)
        image.paste(quarter, (place % 2 * (width // 2), place // 2 * (height // 2)))
    image.paste("white", (0, 0, width // 8, height // 4))
    return image


def plain(colour: str | tuple[int, int, int], size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    """A file of one colour."""
    return encode(Image.new("RGB", size, colour), kind)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(image: Image.Image | None = None) -> bytes:
    """A HEIC file; needs pillow-heif."""
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image or scene()).save(buffer, quality=95)
    return buffer.getvalue()


# ---- good files, by name. Lossy ones show the scene up to a few grey levels.

GOOD: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(scene(), "JPEG", quality=95, subsampling=0),
    "progressive jpeg": lambda: encode(scene(), "JPEG", quality=95, subsampling=0, progressive=True),
    "mpo": lambda: mpo(),
    "ycck jpeg": lambda: ycck_jpeg(),
    "png": lambda: encode(scene(), "PNG"),
    "png interlaced by hand": lambda: interlaced_png(),
    "apng": lambda: encode(scene(), "PNG", save_all=True, append_images=[Image.new("RGB", SIZE, "black")]),
    "webp": lambda: encode(scene(), "WEBP", quality=95),
    "webp lossless": lambda: encode(scene(), "WEBP", lossless=True),
    "webp animated": lambda: encode(
        scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", SIZE, "black")]
    ),
    "gif": lambda: encode(scene(), "GIF"),
    "bmp": lambda: encode(scene(), "BMP"),
    "bmp palette": lambda: encode(scene().quantize(16), "BMP"),
    "tiff": lambda: encode(scene(), "TIFF"),
    "tiff lzw": lambda: encode(scene(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: encode(scene(), "TIFF", compression="jpeg", quality=95),
    "tiff many frames": lambda: encode(
        scene(), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9), "black")]
    ),
    "avif": lambda: encode(scene(), "AVIF", quality=95, subsampling="4:4:4"),
    "palette": lambda: encode(scene().quantize(16), "PNG"),
    "rgba opaque": lambda: encode(scene().convert("RGBA"), "PNG"),
}


def mpo() -> bytes:
    """Two photographs in one file, as stereo cameras and telephones write them; the scene is the first."""
    second = Image.new("RGB", SIZE, "black")
    return encode(scene(), "MPO", quality=95, subsampling=0, save_all=True, append_images=[second])


def cmyk_jpeg() -> bytes:
    """A CMYK JPEG with Adobe's marker, its ink stored inverted."""
    return encode(scene().convert("CMYK"), "JPEG", quality=95, subsampling=0)


def ycck_jpeg() -> bytes:
    """A JPEG of Adobe's YCCK kind: a CMYK file whose first three planes are YCbCr, and says so."""
    inverted = Image.eval(scene(), lambda value: 255 - value).convert("YCbCr")
    planes = [Image.eval(plane, lambda value: 255 - value) for plane in inverted.split()]
    file = encode(Image.merge("CMYK", [*planes, Image.new("L", SIZE, 0)]), "JPEG", quality=95, subsampling=0)
    transform = file.index(b"Adobe") + 11
    return file[:transform] + b"\x02" + file[transform + 1 :]


# ---- PNG by hand, for what Pillow does not write and for what nobody should

_GREY, _RGB = 0, 2


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int],
    raw: Iterable[bytes],
    *,
    depth: int = 8,
    colour: int = _GREY,
    extra: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """A PNG from its raw lines, each with its leading filter byte; `extra` chunks go before the pixels."""
    packer = zlib.compressobj(9)
    pixels = b"".join([packer.compress(part) for part in raw]) + packer.flush()
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, int(interlaced))
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def grey16_png(values: NDArray[np.uint16], transparent: int | None = None) -> bytes:
    """16-bit grey (h, w), maybe with one transparent value."""
    height, width = values.shape
    extra = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">H", transparent))
    lines = (b"\0" + line.astype(">u2").tobytes() for line in values)
    return png((width, height), lines, depth=16, extra=extra)


def grey_png(depth: int, values: NDArray[np.uint8], transparent: int | None = None) -> bytes:
    """Grey (h, w) of 1, 2, 4 or 8 bits, maybe with one transparent value; w * depth a multiple of 8."""
    height, width = values.shape
    extra = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">H", transparent))
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    lines = (b"\0" + line.tobytes() for line in np.packbits(bits, axis=1))
    return png((width, height), lines, depth=depth, extra=extra)


def rgb16_png(pixels: NDArray[np.uint16], transparent: tuple[int, int, int] | None = None) -> bytes:
    """16-bit colour (h, w, 3), maybe with one transparent colour."""
    height, width, _ = pixels.shape
    extra = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">3H", *transparent))
    lines = (b"\0" + line.astype(">u2").tobytes() for line in pixels)
    return png((width, height), lines, depth=16, colour=_RGB, extra=extra)


def interlaced_png() -> bytes:
    """The scene as an Adam7 PNG, which Pillow reads but does not write."""
    pixels = np.asarray(scene())
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    raw = (
        b"\0" + line.tobytes() for top, left, down, right in passes for line in pixels[top::down, left::right]
    )
    return png(SIZE, raw, colour=_RGB, interlaced=True)


# ---- orientation


def exif(orientation: int) -> bytes:
    """An EXIF block that tells nothing but the orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def turned(orientation: int, kind: str = "JPEG", image: Image.Image | None = None) -> bytes:
    """A file that shows the scene once its EXIF orientation (1 to 8) is applied."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image or scene()
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    return encode(stored, kind, exif=exif(orientation), **options)


# ---- too large

BOMB_SIZE = (30_000, 30_000)


def bomb_png(size: tuple[int, int] = BOMB_SIZE) -> bytes:
    """A few kB that claim 900 million pixels (and would unpack to 16 MB before they run dry)."""
    return png(size, (bytes(1 << 20) for _ in range(16)), depth=8)


def bomb_gif(size: tuple[int, int] = BOMB_SIZE) -> bytes:
    """A GIF whose plugin fills the whole frame when it opens (disposal 2)."""
    start = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    control = b"!\xf9\x04" + struct.pack("<BHBB", 2 << 2, 10, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x4c\x01\0"
    return start + control + frame + b";"


def bomb_webp(size: tuple[int, int] = (16_000, 16_000)) -> bytes:
    """A lossless WebP whose header claims a huge image (14 bits a side, behind 21 bytes)."""
    small = encode(scene(), "WEBP", lossless=True)
    sides = size[0] - 1 | size[1] - 1 << 14 | small[24] >> 4 << 28
    return small[:21] + struct.pack("<I", sides) + small[25:]


def bomb_tiff_tile() -> bytes:
    """A TIFF of 16 x 16 pixels, cut from one tile of 30,000 x 30,000."""
    tile = zlib.compress(bytes(1 << 20))
    return tiff({256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 30_000, 323: 30_000}, tile, 324, 325)


def many_scans_jpeg(scans: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """A progressive JPEG that repeats its last scan, at a few bytes each."""
    file = encode(Image.new("L", size, 128), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:last] + file[last:-2] * scans + file[-2:]


def gif_after(blocks: bytes) -> bytes:
    """The scene as a GIF, with `blocks` before its first frame."""
    file = encode(scene(), "GIF")
    head = 13 + (3 << (file[10] & 7) + 1)
    return file[:head] + blocks + file[head:]


def gif_of_stray_bytes(length: int) -> bytes:
    """A GIF header and zeros, which belong to no block."""
    return b"GIF89a" + struct.pack("<HHBBB", *SIZE, 0, 0, 0) + bytes(length)


def gif_comment(parts: int) -> bytes:
    """A comment in `parts` blocks of one byte each."""
    return b"!\xfe" + b"\x01x" * parts + b"\0"


def jpeg_after(segments: bytes) -> bytes:
    """The scene as a JPEG, with `segments` before all others."""
    file = GOOD["jpeg"]()
    return file[:2] + segments + file[2:]


def just_over(max_pixels: int) -> bytes:
    """A sound 1-bit PNG of the first whole number of lines of 1000 that is more than `max_pixels`."""
    return lines_of_1000(max_pixels // 1000 + 1)


def just_within(max_pixels: int) -> bytes:
    """Its neighbour, which is not."""
    return lines_of_1000(max_pixels // 1000)


def lines_of_1000(height: int) -> bytes:
    return png((1000, height), (b"\0" + b"\xff" * 125 for _ in range(height)), depth=1)


def gif_with_giant_later_frame() -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\0"
    return encode(scene(), "GIF")[:-1] + frame + b";"


def tiff_with_giant_later_frame() -> bytes:
    first = encode(scene(), "TIFF")
    (directory,) = struct.unpack_from("<I", first, 4)
    (entries,) = struct.unpack_from("<H", first, directory)
    link = directory + 2 + 12 * entries
    giant = _tiff_directory({256: 60_000, 257: 60_000, 258: 8, 259: 1, 262: 1, 273: 8, 279: 1})
    return first[:link] + struct.pack("<I", len(first)) + first[link + 4 :] + giant


def text_bomb_png() -> bytes:
    """A PNG with a compressed text of 64 MB."""
    packer = zlib.compressobj(9)
    text = b"".join([packer.compress(bytes(1 << 20)) for _ in range(64)]) + packer.flush()
    return png((1, 1), [b"\0\x80"], extra=png_chunk(b"zTXt", b"note\0\0" + text))


# ---- TIFF by hand


def tiff(tags: dict[int, int], pixels: bytes, offsets_tag: int = 273, counts_tag: int = 279) -> bytes:
    """A little-endian TIFF of one strip or tile."""
    where = 8 + len(pixels) + len(pixels) % 2
    directory = _tiff_directory({**tags, offsets_tag: 8, counts_tag: len(pixels)})
    return b"II*\0" + struct.pack("<I", where) + pixels + bytes(len(pixels) % 2) + directory


def _tiff_directory(tags: dict[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


# ---- damaged, or no image at all


def truncated(file: bytes, share: float = 0.6) -> bytes:
    return file[: int(len(file) * share)]


def noise(size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture that no codec makes small, so that cutting its file cuts its pixels."""
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def jpeg_with_damaged_exif() -> bytes:
    """A sound photograph whose EXIF block breaks off, as old cameras and editors leave them."""
    block = (
        b"Exif\0\0II*\0\x08\0\0\0\x05\0" + struct.pack("<HHII", 0x010F, 2, 999_999, 0xFFFFF0) + b"\x12\x01"
    )
    return jpeg_after(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block)


SVG = (
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    b'<rect width="9" height="9"/></svg>'
)
HTML = b"<!DOCTYPE html>\n<html><body>404 not found</body></html>"

NOT_IMAGES: dict[str, bytes] = {
    "empty": b"",
    "SVG": SVG,
    "HTML": HTML,
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "Photoshop": b"8BPS\0\x01" + bytes(40),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "ICO": b"\0\0\x01\0\x01\0\x10\x10" + bytes(40),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "video": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(40),
    "text": b"just some words",
    "zeros": bytes(1000),
}
