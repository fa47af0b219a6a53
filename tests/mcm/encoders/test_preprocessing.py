"""Pixels equal those of open_clip's and timm's own transforms."""

import itertools
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from mcm.encoders.preprocessing import Preprocessing, from_open_clip
from mcm.errors import EncoderLoadError

CONFIG: dict[str, Any] = {
    "size": (64, 64),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.25),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
LEVEL = 1.001  # one grey level, and the rounding of float32
GOOD = Preprocessing(resize=(64, 64), crop=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)


def open_clips_own(config: dict[str, Any], image: Image.Image) -> NDArray[np.float64]:
    """Pixels (3, h, w) in grey levels, through open_clip's whole transform, normalisation undone."""
    values = image_transform_v2(PreprocessCfg(**config), is_train=False)(image).numpy()
    mean, std = (np.reshape(config[key], (3, 1, 1)) for key in ("mean", "std"))
    return np.asarray((values * std + mean) * 255, dtype=np.float64)


@pytest.mark.parametrize(
    ("mode", "interpolation", "size"),
    list(itertools.product(["shortest", "longest", "squash"], ["bicubic", "bilinear"], [(64, 64), (48, 80)])),
)
def test_photographs_come_out_as_from_open_clip(
    photographs: list[Image.Image], mode: str, interpolation: str, size: tuple[int, int]
) -> None:
    config = CONFIG | {"resize_mode": mode, "interpolation": interpolation, "size": size, "fill_color": 7}
    for image in photographs[:10]:
        ours = from_open_clip(config).pixels(image)
        np.testing.assert_allclose(ours, open_clips_own(config, image), rtol=0, atol=LEVEL)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["shortest", "squash"]))
@settings(max_examples=60, deadline=None)
def test_images_of_any_size_come_out_as_from_open_clip(width: int, height: int, mode: str) -> None:
    assume(max(width, height) <= 16 * min(width, height))
    noise = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, config = Image.fromarray(noise), CONFIG | {"resize_mode": mode}
    ours = from_open_clip(config).pixels(image)
    np.testing.assert_allclose(ours, open_clips_own(config, image), rtol=0, atol=LEVEL)


@pytest.mark.parametrize("size", [(3, 200), (200, 3), (20, 700), (700, 20)])
def test_thin_images_come_out_nearly_as_from_open_clip(size: tuple[int, int]) -> None:
    smooth = Image.radial_gradient("L").convert("RGB").resize(size)
    ours = from_open_clip(CONFIG).pixels(smooth)
    np.testing.assert_allclose(ours, open_clips_own(CONFIG, smooth), rtol=0, atol=2 * LEVEL)


def test_one_number_stands_for_three_and_for_a_square() -> None:
    config = CONFIG | {"size": 64, "mean": 0.5, "std": 0.5}
    assert from_open_clip(config) == GOOD


def test_a_thin_image_takes_no_memory_for_what_is_cropped_away() -> None:
    """Resized whole, this one would be 64 x 3,200,000 pixels: 800 MB."""
    program = (
        "import re\n"
        "from PIL import Image\n"
        "from mcm.encoders.preprocessing import Preprocessing\n"
        "half = (0.5, 0.5, 0.5)\n"
        "Preprocessing((64, 64), (64, 64), half, half).pixels(Image.new('RGB', (1, 50_000)))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000  # KiB, at the highest


def test_a_thin_image_is_padded_where_nothing_is_cropped() -> None:
    pixels = replace(GOOD, resize_mode="longest", fill=9).pixels(Image.new("RGB", (1, 5000), "white"))
    assert (pixels[:, :, 31] == 255).all()
    assert (np.delete(pixels, 31, axis=2) == 9).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"interpolation": "nearest"},
        {"resize_mode": "crop"},
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0.0)},
        {"std": (0.5, 0.5, float("nan"))},
    ],
)
def test_what_open_clip_does_not_know_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(EncoderLoadError):
        replace(GOOD, **bad)
