"""Where a CLIP SPEC's weights come from, and what is known of them before they are loaded."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from mcm.encoders.runtime import load_errors
from mcm.encoders.spec import FILE, HUB, LOCAL_DIR, RANDOM, ClipSpec
from mcm.errors import EncoderLoadError

CONFIG_NAME = "open_clip_config.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
UNTRAINED = "untrained weights, for tests and benchmarks only"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_HASH_IN_URL = re.compile(r"/([0-9a-f]{64})/|-([0-9a-f]{8,64})\.\w+$")


@dataclass(frozen=True)
class Weights:
    """What to load: a weights file, or a seed for untrained weights.

    `preprocess` overrides open_clip's own for the architecture. `quick_gelu`: the weights are known to
    have been trained with QuickGELU; `force_quick_gelu`: the architecture may be changed to match them.
    `trusted`: a published file, known by its hash.
    """

    path: Path | None = None
    seed: int = 0
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    force_quick_gelu: bool = False
    trusted: bool = False
    note: str = ""


def find_weights(spec: ClipSpec) -> Weights:
    """The weights that `spec` names; a published one is downloaded unless it is there.

    Raises:
        EncoderLoadError: unknown name or tag, missing file or folder, failed download.
    """
    if spec.architecture.startswith(LOCAL_DIR):
        return _local_dir(spec.architecture.removeprefix(LOCAL_DIR))
    if spec.architecture.startswith(HUB):
        return _hub(spec.architecture.removeprefix(HUB))
    _require_architecture(spec.architecture)
    if spec.weights.startswith(FILE):
        return _file(spec.architecture, spec.weights.removeprefix(FILE))
    if spec.weights.startswith(RANDOM):
        return Weights(seed=_seed(spec.weights.removeprefix(RANDOM)), note=UNTRAINED)
    return _tag(spec)


def _require_architecture(name: str) -> None:
    known = open_clip.list_models()
    if name not in known:
        raise EncoderLoadError(
            f"open_clip knows no architecture {name!r}; {_suggest(name, known)}"
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists all"
        )


def _suggest(name: str, known: list[str]) -> str:
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3)
    return f"did you mean {', '.join(folded[c] for c in close)}? " if close else ""


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise EncoderLoadError(f"SEED in random:SEED must be a whole number below 2**63, not {text!r}")
    return int(text)


def _tag(spec: ClipSpec) -> Weights:
    name, tag = spec.architecture, spec.weights
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        tags = open_clip.list_pretrained_tags_by_model(name)
        some = ", ".join(tags[:6]) + " ..." * (len(tags) > 6) if tags else "none"
        raise EncoderLoadError(
            f"open_clip has no weights {tag!r} for {name}; {_suggest(tag, tags)}it has {some}; "
            f"or use {name}/file:PATH or {name}/random:SEED"
        )
    with load_errors(f"download the weights {spec.text} (with the file at hand, use {name}/file:PATH)"):
        path = Path(open_clip.download_pretrained(config))
    quick_gelu = bool(config.get("quick_gelu", False))
    preprocess = _preprocessing(config)
    return Weights(path, preprocess=preprocess, quick_gelu=quick_gelu, force_quick_gelu=quick_gelu)


def _file(name: str, text: str) -> Weights:
    path = _weights_path(text)
    published = _published(path)
    if published is not None:
        preprocess, quick_gelu = _preprocessing(published), bool(published.get("quick_gelu", False))
        return Weights(path, preprocess=preprocess, quick_gelu=quick_gelu, trusted=_fully_hashed(published))
    preprocess, note = _usual_preprocessing(name)
    return Weights(path, preprocess=preprocess, note=note)


def _usual_preprocessing(name: str) -> tuple[dict[str, Any], str]:
    """How the published weights of an architecture want their images, where they agree.

    A bare weights file does not say it, and open_clip then takes OpenAI's mean and std for every
    architecture (open_clip issue 1068).
    """
    configs = [
        _preprocessing(open_clip.get_pretrained_cfg(name, tag))
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    if configs and all(config == configs[0] for config in configs):
        return configs[0], ""
    why = "differ in preprocessing" if configs else "do not exist"
    return {}, (
        f"published weights of {name} {why}, so the images are prepared as for OpenAI's CLIP; if this file "
        f"was trained otherwise, say so in an {CONFIG_NAME} beside it and load it with {LOCAL_DIR}PATH"
    )


def _local_dir(text: str) -> Weights:
    folder = Path(text).expanduser()
    config_path = folder / CONFIG_NAME
    if not config_path.is_file():
        raise EncoderLoadError(f"{folder} is no folder with an {CONFIG_NAME} and a weights file")
    with load_errors(f"read {config_path}"):
        config = json.loads(config_path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise EncoderLoadError(f"{config_path} has no object `model_cfg` that describes the architecture")
    path = _weights_in(folder)
    published = _published(path) or {}
    return Weights(
        path,
        quick_gelu=bool(published.get("quick_gelu", False)),
        trusted=_fully_hashed(published),
        note=_preprocessing_note(config.get("preprocess_cfg")),
    )


def _preprocessing_note(config: Any) -> str:
    missing = [key for key in ("mean", "std") if not (isinstance(config, dict) and config.get(key))]
    if not missing:
        return ""
    return f"{CONFIG_NAME} has no {' and no '.join(missing)} in preprocess_cfg: OpenAI's are taken"


def _weights_in(folder: Path) -> Path:
    """The one weights file of a folder; names that open_clip writes and .safetensors come first."""

    def rank(path: Path) -> tuple[bool, int]:
        return not path.name.startswith("open_clip_"), WEIGHT_SUFFIXES.index(path.suffix)

    files = sorted((p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES), key=rank)
    if not files:
        raise EncoderLoadError(f"{folder} holds no weights file ({', '.join(WEIGHT_SUFFIXES)})")
    equals = [p.name for p in files if rank(p) == rank(files[0])]
    if len(equals) > 1:
        raise EncoderLoadError(
            f"{folder} holds several weights files ({', '.join(sorted(equals))}); keep one, or name it "
            "open_clip_model.safetensors"
        )
    return files[0]


def _hub(model: str) -> Weights:
    with load_errors(f"download {HUB}{model}"):
        path = Path(download_pretrained_from_hf(model))
    return Weights(path, quick_gelu=model in _quick_gelu_hub_models())


def _quick_gelu_hub_models() -> set[str]:
    """Hub models that open_clip's registry knows to have been trained with QuickGELU."""
    hubs = (config.get("hf_hub", "") for config in _registry() if config.get("quick_gelu", False))
    return {"/".join(hub.split("/")[:2]) for hub in hubs if hub}


def _weights_path(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise EncoderLoadError(f"there is no weights file {path}")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise EncoderLoadError(f"the weights file {path} must be one of {', '.join(WEIGHT_SUFFIXES)}")
    return path


def _published(path: Path) -> Mapping[str, Any] | None:
    """open_clip's registry entry of a file that it knows by its hash."""
    with load_errors(f"read {path}"), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for config in _registry():
        found = _HASH_IN_URL.search(config.get("url", ""))
        if found and digest.startswith(found[1] or found[2]):
            return config
    return None


def _fully_hashed(config: Mapping[str, Any]) -> bool:
    """Whether the registry knows the whole hash (of OpenAI's files it does), not its first digits only."""
    found = _HASH_IN_URL.search(config.get("url", ""))
    return found is not None and found[1] is not None


def _registry() -> Iterator[Mapping[str, Any]]:
    return (open_clip.get_pretrained_cfg(name, tag) for name, tag in open_clip.list_pretrained())


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _PREPROCESSING if key in config}
