"""How an encoder wants its images: resized, cropped, and (on the device) normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mcm.encoders.protocol import Pixels
from mcm.errors import EncoderLoadError

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_RESIZE_MODES = ("shortest", "longest", "squash")
_LONGEST_WHOLE = 16  # times as many pixels as are kept; beyond, only the kept part is resized


@dataclass(frozen=True)
class Preprocessing:
    """Resize to `resize`, take the centre `crop`, both (height, width); then (pixel / 255 - mean) / std.

    `resize_mode` says which side meets `resize`: the shortest (the other is cropped), the longest (the
    other is padded with `fill`), or both without keeping the aspect ratio (squash).
    """

    resize: tuple[int, int]
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill: int = 0

    def __post_init__(self) -> None:
        if self.interpolation not in _RESAMPLING:
            raise EncoderLoadError(f"interpolation must be bicubic or bilinear, not {self.interpolation!r}")
        if self.resize_mode not in _RESIZE_MODES:
            raise EncoderLoadError(
                f"resize_mode must be one of {', '.join(_RESIZE_MODES)}, not {self.resize_mode!r}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise EncoderLoadError("mean and std must be three numbers each, those of std above 0")

    def pixels(self, image: Image.Image) -> Pixels:
        """The image as (3, height, width) uint8 of the size `crop`."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        size = self._resized(image.height, image.width)
        if size[0] * size[1] <= _LONGEST_WHOLE * self.crop[0] * self.crop[1]:
            kept = self._resize_then_crop(image, *size)
        else:
            kept = self._resize_kept_part(image, *size)
        return np.asarray(self._padded(kept), dtype=np.uint8).transpose(2, 0, 1).copy()

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize."""
        target_height, target_width = self.resize
        if self.resize_mode == "squash":
            return self.resize
        if self.resize_mode == "shortest" and target_height == target_width:
            # As torchvision's Resize to one number: the long side is cut to an integer, not rounded.
            short = min(height, width)
            return int(target_height * height / short), int(target_width * width / short)
        ratios = height / target_height, width / target_width
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _resize_then_crop(self, image: Image.Image, height: int, width: int) -> Image.Image:
        whole = image.resize((width, height), _RESAMPLING[self.interpolation])
        top, rows = _kept(height, self.crop[0])
        left, columns = _kept(width, self.crop[1])
        return whole.crop((left, top, left + columns, top + rows))

    def _resize_kept_part(self, image: Image.Image, height: int, width: int) -> Image.Image:
        """The same without computing what the crop drops, but for rounding between the two axes.

        A whole 1 x 5000 image, its short side made 224, would be 250 megapixels.
        """
        top, rows = _kept(height, self.crop[0])
        left, columns = _kept(width, self.crop[1])
        down, across = image.height / height, image.width / width
        box = (
            left * across,
            top * down,
            min((left + columns) * across, image.width),
            min((top + rows) * down, image.height),
        )
        return image.resize((columns, rows), _RESAMPLING[self.interpolation], box=box)

    def _padded(self, image: Image.Image) -> Image.Image:
        height, width = self.crop
        if image.size == (width, height):
            return image
        canvas = Image.new("RGB", (width, height), (self.fill,) * 3)
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas


def _kept(length: int, crop: int) -> tuple[int, int]:
    """Where the centre crop of one axis starts, and how many pixels it keeps."""
    return max(0, round((length - crop) / 2)), min(length, crop)


def from_open_clip(config: Mapping[str, Any]) -> Preprocessing:
    """What open_clip's own inference transform does under this preprocess_cfg.

    Raises:
        EncoderLoadError: the configuration asks for something that open_clip's transform does not know.
    """
    height, width = _pair(config["size"])
    mode = config["resize_mode"]
    interpolation = "bicubic" if config["interpolation"] == "random" else config["interpolation"]
    if mode == "shortest" and height != width:
        interpolation = "bicubic"  # open_clip does not pass the interpolation on for such a target
    return Preprocessing(
        resize=(height, width),
        crop=(height, width),
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        interpolation=interpolation,
        resize_mode=mode,
        fill=int(config.get("fill_color", 0)),
    )


def from_timm(config: Mapping[str, Any]) -> Preprocessing:
    """What timm's own inference transform does under this data configuration (a square, centre-cropped)."""
    height, width = config["input_size"][1:]
    share = config["crop_pct"]
    return Preprocessing(
        resize=(int(height / share), int(width / share)),
        crop=(height, width),
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        interpolation=config["interpolation"],
    )


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    numbers = tuple(size)
    return (numbers[0], numbers[-1])


def _triple(values: Any) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(float(v) for v in values)
