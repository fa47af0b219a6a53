"""CLIP through open_clip: the production encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import QuickGELU
from PIL import Image

from mcm.embeddings import Vectors
from mcm.encoders.fingerprint import fingerprint
from mcm.encoders.fused import fuse
from mcm.encoders.patches import patch_grid, with_patches
from mcm.encoders.preprocessing import Preprocessing, from_open_clip
from mcm.encoders.protocol import Pixels
from mcm.encoders.runtime import (
    Normaliser,
    embeddings_of,
    encoder_errors,
    load_errors,
    patch_embeddings_of,
    pick_device,
    quiet,
)
from mcm.encoders.spec import ClipSpec
from mcm.encoders.state_dict import OPENAI_ENTRIES, load_into, read_shapes
from mcm.encoders.text_tower import encode_ids
from mcm.encoders.tokens import Tokens
from mcm.encoders.weights import Weights, find_weights
from mcm.errors import EncoderLoadError

TEXT_BATCH = 64
# Texts whose token ids stand for the tokenizer in the fingerprint.
_TOKEN_PROBE = ["", "a photo of a cat", "The NICE, 123 résumé_of 'déjà-vu' 猫 \U0001f408!"]


class ClipEncoder:
    """An open_clip model as an `Encoder`. Built by `load_clip`."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        preprocessing: Preprocessing,
        *,
        name: str,
        fingerprint: str,
        dim: int,
        note: str,
        activation: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name, self.fingerprint, self.dim, self.note = name, fingerprint, dim, note
        self.device, self.dtype = str(device), str(dtype).removeprefix("torch.")
        self.activation = activation
        self.image_size = preprocessing.crop[0]
        self.max_text_tokens = tokens.context_length
        self._model, self._tokens, self._preprocessing = model, tokens, preprocessing
        self._normalise = Normaliser(preprocessing, device, dtype)

    def prepare(self, image: Image.Image) -> Pixels:
        """Resize and crop as open_clip's own transform does, without its normalisation."""
        return self._preprocessing.pixels(image)

    def encode_images(self, pixels: Pixels) -> Vectors:
        """See `Encoder.encode_images`."""
        if len(pixels) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        return self._embed(
            "encoding images", lambda: self._model.encode_image(self._normalise(pixels))[: len(pixels)]
        )

    def patch_grid(self) -> tuple[int, int]:
        """See `PatchEncoder.patch_grid`."""
        return patch_grid(self._model.visual)

    def encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        """See `PatchEncoder.encode_patches`."""
        shape = (len(pixels), *self.patch_grid(), self.dim)
        if len(pixels) == 0:
            return np.empty((0, self.dim), dtype=np.float32), np.empty(shape, dtype=np.float32)
        with encoder_errors("encoding images"), torch.inference_mode():
            outcome = with_patches(self._model.visual, self._normalise(pixels))
            features, patches = (part[: len(pixels)].float().cpu().numpy() for part in outcome)
            return embeddings_of(features), patch_embeddings_of(patches)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode_texts`; runs in batches of 64, each of texts of about one length."""
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        with encoder_errors("encoding texts"):
            by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), TEXT_BATCH):
            batch = by_length[start : start + TEXT_BATCH]
            rows[batch] = self._encode_texts([texts[i] for i in batch])
        return rows

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """See `Encoder.truncated`; the start and end tokens count."""
        return self._tokens.truncated(texts)

    def warmup(self) -> None:
        """See `Encoder.warmup`."""
        self.encode_images(self.prepare(Image.new("RGB", (self.image_size, self.image_size)))[None])
        self.encode_texts(["a photo of a cat"])

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        return self._embed(
            "encoding texts", lambda: encode_ids(self._model, self._tokens.ids(texts).to(self.device))
        )

    @staticmethod
    def _embed(what: str, forward: Callable[[], torch.Tensor]) -> Vectors:
        with encoder_errors(what), torch.inference_mode():
            return embeddings_of(forward().float().cpu().numpy())


def load_clip(spec: ClipSpec, device: str, *, bilinear: bool = False) -> ClipEncoder:
    """The open_clip model that `spec` names; `bilinear`: see `load_encoder`.

    Raises:
        EncoderLoadError: see `load_encoder`.
    """
    target = pick_device(device)
    dtype = torch.float16 if target.type == "cuda" else torch.float32
    weights = find_weights(spec)
    with load_errors(f"load {spec.text}"), quiet(), torch.random.fork_rng(devices=[]):
        config = open_clip.get_model_config(spec.architecture)
        model = _build(spec, weights, dtype)
        tokens = Tokens(open_clip.get_tokenizer(spec.architecture))
        preprocessing = from_open_clip(open_clip.get_model_preprocess_cfg(model))
        if bilinear:
            preprocessing = replace(preprocessing, interpolation="bilinear")
        identity = _fingerprint(config, weights, model, tokens, preprocessing, dtype)
        activation = activation_of(model)
        fuse(model.to(target))  # last: what it replaces has neither weights nor activation to look at
    return ClipEncoder(
        model,
        tokens,
        preprocessing,
        name=spec.text,
        fingerprint=identity,
        dim=int(config["embed_dim"]),
        note=weights.note,
        activation=activation,
        device=target,
        dtype=dtype,
    )


def activation_of(model: torch.nn.Module) -> str:
    """ "QuickGELU" or "GELU", as the built image tower has it; the text tower's where it has neither."""
    for tower in (model.visual, model):
        kinds = _gelus(tower)
        if kinds:
            return "+".join(sorted(kinds))
    return "other"


def _gelus(module: Any) -> set[str]:
    return {type(m).__name__ for m in module.modules() if isinstance(m, QuickGELU | torch.nn.GELU)}


def _build(spec: ClipSpec, weights: Weights, dtype: torch.dtype) -> Any:
    torch.default_generator.manual_seed(weights.seed)
    model = open_clip.create_model(
        spec.architecture,
        load_weights=False,
        precision="fp16" if dtype is torch.float16 else "fp32",
        device="cpu",
        force_quick_gelu=weights.force_quick_gelu,
        force_preprocess_cfg=dict(weights.preprocess),
        pretrained_text=False,
    )
    if weights.path is not None:
        shapes = read_shapes(weights.path, trusted=weights.trusted)
        if weights.quick_gelu or shapes.keys() & OPENAI_ENTRIES:
            _require_quick_gelu(model, spec)
        load_into(model, weights.path, shapes, architecture=spec.architecture, trusted=weights.trusted)
    return model.eval().requires_grad_(False)


def _require_quick_gelu(model: Any, spec: ClipSpec) -> None:
    """Refuse weights trained with QuickGELU in a model without: they load without a word and are off."""
    if _gelus(model) == {"QuickGELU"}:
        return
    remedy = (
        f"use {spec.architecture}-quickgelu/{spec.weights}"
        if spec.weights
        else "set `quick_gelu` to true in the `model_cfg` of its open_clip_config.json"
    )
    raise EncoderLoadError(
        f"{spec.text}: these are OpenAI's weights or others trained with QuickGELU, and the architecture "
        f"has GELU; {remedy}"
    )


def _fingerprint(
    config: Mapping[str, Any],
    weights: Weights,
    model: Any,
    tokens: Tokens,
    preprocessing: Preprocessing,
    dtype: torch.dtype,
) -> str:
    with encoder_errors("tokenizing"):
        probe = tokens.ids(_TOKEN_PROBE).tolist()
    return fingerprint(
        architecture={
            **_canonical(config),
            "quick_gelu": bool(config.get("quick_gelu", False)) or weights.force_quick_gelu,
            "tokens": probe,
        },
        activation=activation_of(model),
        weights=model.state_dict(),
        preprocessing=preprocessing,
        dtype=str(dtype),
    )


def _canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model config without what only repeats open_clip's defaults or says where weights come from.

    So two ways of writing one architecture are equal, and a new option of open_clip changes nothing.
    """
    towers = {"vision_cfg": open_clip.CLIPVisionCfg, "text_cfg": open_clip.CLIPTextCfg}
    silent = {"timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name"}
    canonical = {k: v for k, v in config.items() if k not in towers and k != "quick_gelu" and v}
    for key, kind in towers.items():
        default = asdict(kind())
        canonical[key] = {
            k: v for k, v in config[key].items() if k not in silent and v != default.get(k, ...)
        }
    return canonical
