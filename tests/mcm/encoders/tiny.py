"""A tiny CLIP architecture, and folders and files of its weights."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESSING = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}


def write_config(folder: Path, model: dict[str, Any], preprocessing: dict[str, Any] | None) -> None:
    content: dict[str, Any] = {"model_cfg": model}
    if preprocessing is not None:
        content["preprocess_cfg"] = preprocessing
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(content))


def state_dict(model: dict[str, Any] | None = None, *, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random weights for the architecture."""
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = open_clip.CLIP(**(model or CONFIG)).state_dict()
    return state


def write_local_dir(
    folder: Path,
    *,
    model: dict[str, Any] | None = None,
    preprocessing: dict[str, Any] | None = PREPROCESSING,
    weights: str = "open_clip_model.safetensors",
    seed: int = 1,
) -> Path:
    """A folder that `local-dir:` loads."""
    write_config(folder, model or CONFIG, preprocessing)
    save(state_dict(model, seed=seed), folder / weights)
    return folder


def save(state: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path
