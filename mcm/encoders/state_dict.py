"""A weights file into a model, with errors that say what does not fit."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import safe_open

from mcm.encoders.runtime import first_line
from mcm.errors import EncoderLoadError

# Entries that only OpenAI's own TorchScript files have beside the weights.
OPENAI_ENTRIES = frozenset({"input_resolution", "context_length", "vocab_size"})
_POSITIONS = ("visual.positional_embedding", "positional_embedding")

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path, *, trusted: bool) -> Shapes:
    """Names and shapes of the tensors in a weights file, without reading them where that is possible.

    Raises:
        EncoderLoadError: damaged, or no state dict.
    """
    try:
        state = _scripted(path) if trusted and is_torchscript(path) else _open(path)
    except Exception as error:
        raise EncoderLoadError(
            f"cannot read the weights file {path}: it is damaged or holds no state dict ({first_line(error)})"
        ) from error
    if not state:
        raise EncoderLoadError(f"the weights file {path} holds no tensors; it must be a state dict")
    return state


def load_into(
    model: torch.nn.Module, path: Path, shapes: Shapes, *, architecture: str, trusted: bool
) -> None:
    """Load the whole file into the model; every entry must have its place and every place its entry.

    Raises:
        EncoderLoadError: the weights are of another architecture.
    """
    _require_positions(model, path, shapes, architecture)
    try:
        if shapes.keys() & OPENAI_ENTRIES:
            tensors = _tensors(path, trusted=trusted)
            model.load_state_dict({k: v for k, v in tensors.items() if k not in OPENAI_ENTRIES})
        else:
            open_clip.load_checkpoint(model, str(path))
    except Exception as error:
        misfit = _misfit(model, shapes) or first_line(error)
        raise EncoderLoadError(f"the weights file {path} does not fit {architecture}: {misfit}") from error


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, as OpenAI publishes its weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _open(path: Path) -> Shapes:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    state = _state(torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)))
    return {key: tuple(value.shape) for key, value in state.items()}


def _scripted(path: Path) -> Shapes:
    return {key: tuple(value.shape) for key, value in _tensors(path, trusted=True).items()}


def _tensors(path: Path, *, trusted: bool) -> dict[str, torch.Tensor]:
    """All tensors of a .pt file. A TorchScript archive carries code: only a published one is opened."""
    if trusted and is_torchscript(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive: torch.jit.ScriptModule = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return dict(archive.state_dict())
    return _state(torch.load(path, map_location="cpu", weights_only=True))


def _state(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of the training checkpoint around it."""
    state = content.get("state_dict", content)
    return {
        key.removeprefix("module."): value for key, value in state.items() if isinstance(value, torch.Tensor)
    }


def _require_positions(model: torch.nn.Module, path: Path, shapes: Shapes, architecture: str) -> None:
    """Refuse positional embeddings of another length: open_clip would resize them without a word."""
    places = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in _POSITIONS:
        place = places.get(key, places.get(f"text.{key}"))
        given = shapes.get(key, shapes.get(f"text.{key}"))
        if place and given and place != given:
            what = "image size" if key.startswith("visual") else "text length"
            raise EncoderLoadError(
                f"the weights file {path} does not fit {architecture}: it is for another {what} "
                f"({key} is {given}, not {place})"
            )


def _misfit(model: torch.nn.Module, shapes: Shapes) -> str:
    """What does not fit, in one line; empty where all does."""
    places = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    groups = {
        "missing": sorted(places.keys() - shapes.keys()),
        "unexpected": sorted(shapes.keys() - places.keys() - OPENAI_ENTRIES),
        "of another size": sorted(k for k in places.keys() & shapes.keys() if places[k] != shapes[k]),
    }
    return ", ".join(f"{len(keys)} entries {what} ({keys[0]} ...)" for what, keys in groups.items() if keys)
