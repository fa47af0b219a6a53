"""Patch embeddings of open_clip's image towers: what each part of an image shows, in the space of the texts.

The value road of Miyai et al., "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot
Out-of-Distribution Detection", IJCV 2025: in the last attention, each position attends to itself only, so
that it keeps what is there and still lands where the texts are.
"""

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch.nn.functional import linear

from mcm.encoders.fused import FusedBlock, reads_class_token
from mcm.errors import NoPatches

_STRIDE = 32  # of a ResNet: pixels of the image, across, to one position of the last grid


def patch_grid(visual: Any) -> tuple[int, int]:
    """Rows and columns of patches that `with_patches` gives of an image.

    Raises:
        NoPatches: the tower is neither a ViT that reads its class token nor a ResNet with attention pool.
    """
    if _is_plain_vit(visual):
        rows, columns = visual.grid_size
        return int(rows), int(columns)
    if type(visual) is ModifiedResNet:
        side = int(visual.image_size) // _STRIDE
        return side, side
    raise NoPatches(f"the image tower {_named(visual)}")


def with_patches(visual: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the tower makes of images, and of their patches, in one forward.

    (n, 3, h, w) -> features (n, d) as `visual(images)` gives them, and (n, rows, columns, d); neither is
    normalised.

    Raises:
        NoPatches: see `patch_grid`.
    """
    patch_grid(visual)
    return _resnet(visual, images) if type(visual) is ModifiedResNet else _vit(visual, images)


def _vit(visual: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    *before, last = visual.transformer.resblocks
    tokens = visual._embeds(images)
    for block in before:
        tokens = block(tokens)
    outcome = torch.cat([last(tokens)[:, :1], _values(last, tokens[:, 1:])], dim=1)
    features = visual.ln_post(outcome) @ visual.proj
    return features[:, 0], features[:, 1:].reshape(len(images), *visual.grid_size, -1)


def _values(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The block where each token attends to itself only: (n, t, d) -> (n, t, d)."""
    if isinstance(block, FusedBlock):
        return block.values(tokens)
    attention, width = block.attn, block.attn.embed_dim
    bias = attention.in_proj_bias
    value = linear(
        block.ln_1(tokens),
        attention.in_proj_weight[2 * width :],
        None if bias is None else bias[2 * width :],
    )
    tokens = tokens + block.ls_1(attention.out_proj(value))
    outcome: torch.Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return outcome


def _resnet(visual: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    grid = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        grid = layer(grid)
    pool = visual.attnpool
    return pool(grid), pool.c_proj(pool.v_proj(grid.permute(0, 2, 3, 1)))


def _is_plain_vit(visual: Any) -> bool:
    return reads_class_token(visual) and all(
        type(block) in (ResidualAttentionBlock, FusedBlock) for block in visual.transformer.resblocks
    )


def _named(visual: Any) -> str:
    """The tower's class, and how it pools or what it is built from where that is what makes it another."""
    name = type(visual).__name__
    if not isinstance(visual, VisionTransformer):
        trunk = getattr(visual, "trunk", None)  # the timm model inside a TimmModel
        return name if trunk is None else f"{name} ({type(trunk).__name__})"
    if visual.attn_pool is not None:
        return f"{name} with attentional pool"
    if visual.pool_type != "tok":
        return f"{name} with pool {visual.pool_type!r}"
    return f"{name} of {type(visual.transformer.resblocks[0]).__name__}s"
