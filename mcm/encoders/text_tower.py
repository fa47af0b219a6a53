"""Texts through an open_clip text tower, without the padding behind them."""

from typing import Any

import open_clip
import torch

_STEP = 8  # lengths are rounded up to a multiple, so that few shapes occur


def encode_ids(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Features (m, d) of token ids (m, context length), as `model.encode_text` gives them.

    OpenAI's text tower is causal and reads the end token, which has the largest id: what is behind it plays
    no part. Most prompts are ten tokens of 77, so leaving the rest out takes a fraction of the time.
    """
    if not _reads_end_token(model):
        features: torch.Tensor = model.encode_text(ids)
        return features
    length = min(-(-int(ids.argmax(dim=1).max() + 1) // _STEP) * _STEP, ids.shape[1])
    ids = ids[:, :length]
    dtype = model.transformer.get_cast_dtype()
    x: torch.Tensor = model.token_embedding(ids).to(dtype) + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x), device=x.device), ids.argmax(dim=1)]
    projection = model.text_projection
    if isinstance(projection, torch.nn.Linear):
        x = projection(x)
    elif projection is not None:
        x = x @ projection
    return x


def _reads_end_token(model: Any) -> bool:
    return type(model) is open_clip.CLIP and model.attn_mask is not None and model.text_pool_type == "argmax"
