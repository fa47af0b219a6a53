"""open_clip's transformer blocks with the same values, computed faster on a CPU.

A forward is nearly all matrix products. oneDNN computes them with weights that are packed once, which torch's
own `Linear` does anew each time, and applies the activation while a result is still in the cache. These are
the operators that torch's own compiler emits; here they need no compiler.
"""

import logging
from typing import Any

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, Transformer, VisionTransformer
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

_log = logging.getLogger(__name__)
_QUICK = 1.702  # QuickGELU(x) = x * sigmoid(1.702 x) = SiLU(1.702 x) / 1.702, and oneDNN knows SiLU
_ROWS = 1600  # tokens of a batch of 32 B/32 images: what the packing is tuned for; others work too
_TOLERANCE = 1e-4  # float32 noise is 1e-6; a wrong formula is off by far more


class PackedLinear:
    """act(x W^T + b) of float32 tensors on the CPU: (..., d_in) -> (..., d_out)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, act: str = "none", form: str = "") -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self._bias, self._act, self._form = bias.detach().clone(), act, form

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product, with the activation applied."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.contiguous(), self._weight, self._bias, self._act, [], self._form
        )
        return product


class FusedBlock(nn.Module):
    """What a `ResidualAttentionBlock` computes: tokens (n, t, d) -> (n, t, d).

    With `first_only`, for the last block of a tower of which only the class token is read: -> (n, 1, d).
    """

    def __init__(self, block: Any, *, first_only: bool = False) -> None:
        super().__init__()
        attention, mlp = block.attn, block.mlp
        width = attention.embed_dim
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        self.ln_1, self.ln_2, self.ls_1, self.ls_2 = block.ln_1, block.ln_2, block.ls_1, block.ls_2
        self.first_only, self._heads = first_only, attention.num_heads
        self._query = PackedLinear(weight[:width], bias[:width])
        self._key_value = PackedLinear(weight[width:], bias[width:])
        self._out = PackedLinear(attention.out_proj.weight, attention.out_proj.bias)
        self._widen, self._narrow = _mlp(mlp.c_fc, mlp.gelu, mlp.c_proj)

    def get_weight_dtype(self) -> torch.dtype:
        """open_clip asks the first block of a tower for it."""
        return torch.float32

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The block's tokens, or the first one."""
        y = self.ln_1(x)
        if self.first_only:
            x = x[:, :1]
        return self.mlp(x + self.ls_1(self._attention(y[:, : x.shape[1]], y, attn_mask)))

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """The block where each token attends to itself only: (n, t, d) -> (n, t, d)."""
        value = self._key_value(self.ln_1(x)).chunk(2, dim=-1)[1]
        return self.mlp(x + self.ls_1(self._out(value)))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """The second half of the block."""
        tokens: torch.Tensor = x + self.ls_2(self._narrow(self._widen(self.ln_2(x))))
        return tokens

    def _attention(self, to: torch.Tensor, of: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        key, value = self._key_value(of).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (self._query(to), key, value))
        joined = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self._out(joined.transpose(1, 2).reshape(to.shape))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, t, d) -> (n, heads, t, d / heads)."""
        return x.reshape(*x.shape[:2], self._heads, -1).transpose(1, 2)


def fuse(model: nn.Module) -> int:
    """Replace the blocks of the model's transformers by fused ones, in place; how many were replaced.

    For float32 models on a CPU. Towers of another make stay as they are, and so does a tower whose first
    block does not come out equal, or fails: speed must not cost truth.
    """
    replaced = 0
    for tower in [module for module in model.modules() if isinstance(module, Transformer)]:
        blocks = tower.resblocks
        if not all(_is_plain(block) for block in blocks) or not _comes_out_equal(blocks[0]):
            continue
        last = len(blocks) - 1
        for i, block in enumerate(blocks):
            blocks[i] = FusedBlock(block, first_only=i == last and _reads_nothing_else(model, tower))
            replaced += 1
    return replaced


def _mlp(widen: nn.Linear, act: nn.Module, narrow: nn.Linear) -> tuple[PackedLinear, PackedLinear]:
    if isinstance(act, QuickGELU):
        return (
            PackedLinear(widen.weight * _QUICK, widen.bias * _QUICK, "swish"),
            PackedLinear(narrow.weight / _QUICK, narrow.bias),
        )
    form = str(getattr(act, "approximate", "none"))
    return PackedLinear(widen.weight, widen.bias, "gelu", form), PackedLinear(narrow.weight, narrow.bias)


def _is_plain(block: Any) -> bool:
    """Whether it is the block that `FusedBlock` knows, and nothing more."""
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and bool(block.attn.batch_first)
        and block.attn.in_proj_bias is not None
        and isinstance(block.mlp.gelu, QuickGELU | nn.GELU)
        and all(weight.dtype is torch.float32 and weight.is_cpu for weight in block.parameters())
    )


def _comes_out_equal(block: Any) -> bool:
    tokens = torch.linspace(-2, 2, 5 * block.attn.embed_dim).sin().reshape(1, 5, -1)
    try:
        with torch.inference_mode():
            return torch.allclose(FusedBlock(block)(tokens), block(tokens), rtol=_TOLERANCE, atol=_TOLERANCE)
    except Exception:
        _log.info("the fused blocks do not work with this torch; going on without", exc_info=True)
        return False


def reads_class_token(visual: Any) -> bool:
    """Whether it is an open_clip ViT whose features are its class token's."""
    plain = type(visual) is VisionTransformer
    return plain and visual.attn_pool is None and bool(visual.pool_type == "tok")


def _reads_nothing_else(model: nn.Module, tower: nn.Module) -> bool:
    """Whether only the first token of this tower's last block is read."""
    visual: Any = getattr(model, "visual", None)
    return reads_class_token(visual) and visual.transformer is tower and not visual.output_tokens
