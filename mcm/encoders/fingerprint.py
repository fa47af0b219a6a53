"""The fingerprint: equal if and only if all that decides an embedding is equal."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from mcm.encoders.preprocessing import Preprocessing


def fingerprint(
    *,
    architecture: Mapping[str, Any],
    activation: str,
    weights: Mapping[str, torch.Tensor],
    preprocessing: Preprocessing,
    dtype: str,
) -> str:
    """SHA-256 over architecture (plain JSON data), activation, weights, preprocessing and dtype.

    Names and paths are not part of it: the same model from a file and from a folder is the same encoder.
    """
    facts = [architecture, activation, asdict(preprocessing), dtype]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
    for key in sorted(weights):
        tensor = weights[key].detach().cpu().contiguous()
        digest.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
