"""Bytes -> RGB image, safely, within limits."""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mcm.errors import BrokenImage, ImageError, ImageTooLarge, InvalidInput, UnsupportedImage
from mcm.image_formats import READ_FORMATS, bare_gif, bare_jpeg, exif_orientation, sniff


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes of the file, pixels (width x height) of the first frame.

    `formats` are those of READ_FORMATS that are decoded.
    Pillow's own `PIL.Image.MAX_IMAGE_PIXELS` (89 million) holds as well; who wants more raises both.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = READ_FORMATS


DEFAULT_LIMITS = ImageLimits()

# The plugins are called directly: `Image.open` would warn of large images before their size can be
# checked, would build a whole MPO file where the first frame is asked for, and loads plugins by trial.
_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pillow_heif", "HeifImageFile"),
}
# Each scan of a progressive JPEG passes over the whole image once more, and needs a few bytes only: a
# small file could keep a processor busy for an hour. Encoders write about ten scans.
_MAX_SCANS = 20
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLAIN_MODES = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY16_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
_MODE_NAMES = {"F": "floating point", "I": "signed or 32-bit integer", "LAB": "CIE Lab"}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 258, 262, 322, 323


def load_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame of an image file, decoded whole: RGB, upright by its EXIF orientation.

    Alpha is composited on white; 16-bit grey is scaled to 8 bits. The bytes decide what the format is.
    Width and height are checked before any pixel is decoded. Thread-safe.

    Raises:
        InvalidInput: `data` is not bytes.
        ImageTooLarge: more bytes or pixels than `limits` allow.
        UnsupportedImage: not an image, or a format or kind of pixels that is not read here.
        BrokenImage: truncated or damaged.
    """
    if not isinstance(data, bytes):
        raise InvalidInput(
            f"an image is given as the bytes of its file, not as {type(data).__name__}; "
            "read a file with Path(...).read_bytes()"
        )
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the file has {len(data):,} bytes; the limit is {limits.max_bytes:,}")
    kind = _readable_format(data, limits.formats)
    plugin = _plugin(kind)
    try:
        return _decode(data, kind, plugin, limits)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"the image has more pixels than the limit of {limits.max_pixels:,}; send a smaller copy"
        ) from error
    except Exception as error:  # on hostile bytes Pillow raises almost anything: this is the one seam
        raise BrokenImage(
            f"the {kind} image cannot be decoded whole: it is truncated or damaged; send it again, or another"
        ) from error


def _readable_format(data: bytes, formats: tuple[str, ...]) -> str:
    if not data:
        raise UnsupportedImage("the file is empty; send an image")
    kind = sniff(data)
    if kind in formats:
        return kind
    if kind in READ_FORMATS:
        what = f"{kind} images are switched off here"
    else:
        what = f"{kind} files are not read" if kind else "this is not an image in a format that is read"
    raise UnsupportedImage(f"{what}; send one of {', '.join(formats)}")


def _plugin(kind: str) -> Callable[[io.BytesIO], Image.Image]:
    module, name = _PLUGINS[kind]
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ImportError as error:
        raise UnsupportedImage(
            f"{kind} images are read only where {module} is installed (pip install 'mcm-ood[heic]'); "
            "convert the image to JPEG or PNG"
        ) from error


def _decode(
    data: bytes, kind: str, plugin: Callable[[io.BytesIO], Image.Image], limits: ImageLimits
) -> Image.Image:
    exif, scans = None, 1
    if kind == "JPEG":
        data, exif, scans = bare_jpeg(data)
    if kind == "GIF":
        data, size = bare_gif(data)
        _check_pixels(size, limits)  # already here: the plugin may fill a whole frame when it opens
    image = plugin(io.BytesIO(data))
    _check_pixels(image.size, limits)
    _check_scans(scans, image.size, limits)
    _check_tile(image, limits)
    _scale_transparent_grey(image)
    image.load()
    exif = image.info.get("exif") if exif is None else exif
    upright = _UPRIGHT.get(exif_orientation(exif or b""))
    rgb = _to_rgb(image)
    return rgb if upright is None else rgb.transpose(upright)


def _check_pixels(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    allowed = min(limits.max_pixels, Image.MAX_IMAGE_PIXELS or limits.max_pixels)
    if width * height > allowed:
        raise ImageTooLarge(
            f"the image has {width:,} x {height:,} = {width * height:,} pixels; the limit is {allowed:,}; "
            "send a smaller copy"
        )


def _check_scans(scans: int, size: tuple[int, int], limits: ImageLimits) -> None:
    """Bounds the work, not the scans: they are counted by a mark that other data may hold by chance."""
    if scans * size[0] * size[1] > _MAX_SCANS * limits.max_pixels:
        raise ImageTooLarge(
            f"the JPEG has {scans:,} scans of {size[0]:,} x {size[1]:,} pixels; the limit is "
            f"{_MAX_SCANS} scans of {limits.max_pixels:,} pixels; save it as a baseline JPEG"
        )


def _check_tile(image: Image.Image, limits: ImageLimits) -> None:
    """A tile of a TIFF is decoded whole, and may be far larger than the image that shows a part of it."""
    tags = getattr(image, "tag_v2", {})
    if _TIFF_TILE_WIDTH in tags and _TIFF_TILE_LENGTH in tags:
        _check_pixels((tags[_TIFF_TILE_WIDTH], tags[_TIFF_TILE_LENGTH]), limits)


def _scale_transparent_grey(image: Image.Image) -> None:
    """Pillow spreads grey of 2 or 4 bits over 0..255, but not the grey that a PNG calls transparent.

    And it cuts colours of 16 bits to their upper 8, but not the colour that is transparent.
    """
    key, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    if key is None or not tiles:
        return
    match tiles[0].args:
        case "L;2":
            image.info["transparency"] = key * 85
        case "L;4":
            image.info["transparency"] = key * 17
        case "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in key)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _GREY16_MODES:
        return _grey16_to_rgb(image)
    if image.mode in _ALPHA_MODES or (image.mode in _PLAIN_MODES and image.has_transparency_data):
        return _on_white(image)
    if image.mode in _PLAIN_MODES:
        return image.convert("RGB") if image.mode != "RGB" else image
    name = _MODE_NAMES.get(image.mode, image.mode)
    raise UnsupportedImage(
        f"{name} pixels (mode {image.mode}) are not read: their range is not known; save the image as RGB"
    )


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    page = Image.new("RGB", rgba.size, "white")
    page.paste(rgba, mask=rgba.getchannel("A"))
    return page


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (in TIFF also 12), scaled to 8; 8-bit grey that was stored as 16 comes back exactly."""
    values: NDArray[Any] = np.asarray(image).astype(np.uint16)
    key = image.info.get("transparency")
    transparent = None if key is None else values == key
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_BITS, (16,))[0] == 12:
        values = values << 4 | values >> 8
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero; Pillow turns it round for 8 bits only
        values = ~values
    grey = ((values - (values >> 8) + 128) >> 8).astype(np.uint8)  # values / 257 rounded, within 16 bits
    if transparent is not None:
        grey[transparent] = 255
    return Image.fromarray(grey).convert("RGB")
