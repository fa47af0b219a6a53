"""Patches: equal to the values of the GL-MCM authors' own code, or refused by name."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from mcm.definition import define
from mcm.encoders import load_encoder
from mcm.encoders.fused import FusedBlock, fuse
from mcm.encoders.patches import patch_grid, with_patches
from mcm.errors import NoPatches
from mcm.prompts import build_detector
from mcm.scores import gl_mcm, local_mcm, mcm
from tests.mcm.encoders import tiny
from tests.shared import shared

SIZE = 64
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": SIZE, "layers": 2, "width": 48, "head_width": 16, "patch_size": 16}
RESNET = {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def golden() -> Any:
    return np.load(shared("golden/gl_mcm.npz"))


def golden_model() -> Any:
    """The tiny vision transformer of the golden values, as the image tower of a CLIP model."""
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32}
    model = open_clip.CLIP(24, vision, TEXT, quick_gelu=True).eval()
    weights = golden()
    model.visual.load_state_dict(
        {
            key.removeprefix("visual."): torch.from_numpy(weights[key])
            for key in weights.files
            if key.startswith("visual.")
        }
    )
    return model


def model(vision: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    built = open_clip.CLIP(32, vision, TEXT)
    for name, weight in built.visual.named_parameters():
        if "bias" in name or "gamma" in name or "bn3" in name:  # which start at zero
            torch.nn.init.normal_(weight, std=0.5)
    return built.eval()


def images(n: int = 3, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def unit(features: torch.Tensor) -> np.ndarray:
    return normalize(features, dim=-1).numpy()


@pytest.mark.parametrize("fused", [False, True])
def test_a_vit_gives_the_embeddings_of_the_authors_code(fused: bool) -> None:
    data, clip = golden(), golden_model()
    if fused:
        fuse(clip)
    assert isinstance(clip.visual.transformer.resblocks[-1], FusedBlock) == fused
    features, patches = with_patches(clip.visual, torch.from_numpy(data["images"]))
    assert patch_grid(clip.visual) == data["patch_embedding"].shape[1:3]
    expected = torch.from_numpy(data["patch_embedding"])
    np.testing.assert_allclose(
        unit(features), unit(torch.from_numpy(data["image_embedding"])), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(unit(patches), unit(expected), rtol=0, atol=1e-5)


def test_the_scores_are_those_of_the_authors_code() -> None:
    data = golden()
    texts = unit(torch.from_numpy(data["text"]))
    features, patches = with_patches(golden_model().visual, torch.from_numpy(data["images"]))
    for text, expected in json.loads(shared("golden/gl_mcm.json").read_text())["temperature"].items():
        close = partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-6)
        globally = mcm(unit(features) @ texts.T, float(text))
        locally = local_mcm(unit(patches).reshape(-1, 24) @ texts.T, 16, float(text))
        close(globally, expected["mcm"])
        close(locally, expected["l-mcm"])
        for weight, scores in expected["gl-mcm"].items():
            close(gl_mcm(globally, locally, float(weight)), scores)


@pytest.mark.parametrize("vision", [VIT, VIT | {"ls_init_value": 0.1}, RESNET])
@pytest.mark.parametrize("fused", [False, True])
def test_the_features_are_those_of_the_plain_forward(vision: dict[str, Any], fused: bool) -> None:
    clip = model(vision)
    if fused:
        fuse(clip)
    features, patches = with_patches(clip.visual, images())
    torch.testing.assert_close(features, clip.encode_image(images()), rtol=1e-6, atol=1e-6)
    assert patches.shape == (3, *patch_grid(clip.visual), 32)


def test_fused_blocks_give_the_same_patches() -> None:
    clip = model(VIT | {"ls_init_value": 0.1})
    _, plain = with_patches(clip.visual, images())
    fuse(clip)
    torch.testing.assert_close(with_patches(clip.visual, images())[1], plain, rtol=1e-5, atol=1e-5)


def test_a_resnets_patches_are_its_grid_through_value_and_output_projection() -> None:
    """What the attention pool is given, and what its projections make of one position after the other."""
    visual = model(RESNET).visual
    seen: list[torch.Tensor] = []
    hook = visual.attnpool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pooled = visual(images())
    hook.remove()
    features, patches = with_patches(visual, images())
    assert patch_grid(visual) == tuple(seen[0].shape[2:]) == (2, 2)
    torch.testing.assert_close(features, pooled)
    pool = visual.attnpool
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = seen[0][:, :, row, column]
        torch.testing.assert_close(patches[:, row, column], pool.c_proj(pool.v_proj(at)))


def test_a_patch_lies_where_it_was_in_the_image() -> None:
    visual = model(VIT | {"layers": 1}).visual
    marked = images(1)
    marked[..., 16:32, 48:] += 5
    moved = (with_patches(visual, marked)[1] - with_patches(visual, images(1))[1]).abs().sum(dim=3)[0]
    assert moved.nonzero().tolist() == [[1, 3]]


def test_a_grid_need_not_be_square() -> None:
    visual = model(VIT | {"image_size": (32, SIZE)}).visual
    assert patch_grid(visual) == (2, 4)
    assert with_patches(visual, images(2, 32))[1].shape == (2, 2, 4, 32)


@pytest.mark.parametrize(
    ("vision", "named"),
    [
        ({"attentional_pool": True}, "VisionTransformer with attentional pool"),
        ({"pool_type": "avg"}, "VisionTransformer with pool 'avg'"),
        ({"block_type": "custom", "qk_norm": True}, "VisionTransformer of CustomResidualAttentionBlocks"),
    ],
)
def test_other_towers_are_refused_by_name(vision: dict[str, Any], named: str) -> None:
    visual = model(VIT | vision).visual
    with pytest.raises(NoPatches, match=f"the image tower {named} gives no patch embeddings"):
        patch_grid(visual)
    with pytest.raises(NoPatches, match=named):
        with_patches(visual, images())


def test_a_timm_tower_is_refused_by_the_name_of_its_model() -> None:
    vision = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}
    with pytest.raises(NoPatches, match=r"TimmModel \(VisionTransformer\) gives no patch"):
        patch_grid(open_clip.CLIP(32, vision, TEXT).visual)


def test_towers_made_from_the_ones_that_are_known_are_not_taken_for_them() -> None:
    vit, resnet = model(VIT).visual, model(RESNET).visual
    vit.__class__ = type("Resampled", (type(vit),), {})
    resnet.__class__ = type("Deeper", (type(resnet),), {})
    for visual, name in ((vit, "Resampled"), (resnet, "Deeper")):
        with pytest.raises(NoPatches, match=name):
            patch_grid(visual)


def test_a_detector_that_needs_patches_is_refused_by_the_name_of_the_tower(tmp_path: Path) -> None:
    vision = {"vision_cfg": tiny.CONFIG["vision_cfg"] | {"pool_type": "avg"}}
    folder = tiny.write_local_dir(tmp_path / "average", model=tiny.CONFIG | vision)
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    with pytest.raises(NoPatches, match="VisionTransformer with pool 'avg' gives no patch embeddings"):
        build_detector(define(["cat", "dog"], score="gl-mcm"), encoder)
    assert build_detector(define(["cat", "dog"]), encoder).threshold is None
