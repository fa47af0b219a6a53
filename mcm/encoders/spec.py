"""SPEC -> encoder: the names under which encoders are asked for."""

from dataclasses import dataclass

from mcm.encoders.protocol import Encoder
from mcm.errors import EncoderLoadError, MissingExtra

BUILTIN = "builtin"
LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
FILE = "file:"
RANDOM = "random:"
_FORMS = (
    "builtin, NAME/TAG (such as ViT-B-16/openai), NAME/file:PATH, NAME/random:SEED, local-dir:PATH "
    "or hf-hub:ORG/MODEL"
)


@dataclass(frozen=True)
class ClipSpec:
    """A CLIP SPEC in parts.

    `architecture` is what open_clip calls a model name: `ViT-B-16`, `local-dir:PATH`, `hf-hub:ORG/MODEL`.
    `weights` is a tag, `file:PATH` or `random:SEED`; empty where the architecture brings its own weights.
    """

    text: str
    architecture: str
    weights: str = ""


def load_encoder(spec: str, *, device: str = "auto", bilinear: bool = False) -> Encoder:
    """The encoder that `spec` names, on `device`: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1".

    | SPEC | encoder |
    |---|---|
    | `builtin` | works without a download; knows everyday objects, is not CLIP |
    | `NAME/TAG` | an open_clip architecture with published weights, e.g. `ViT-B-16/openai` |
    | `NAME/file:PATH` | with weights from a file (.pt, .pth, .bin, .safetensors) |
    | `NAME/random:SEED` | untrained, for tests and benchmarks |
    | `local-dir:PATH` | a folder with open_clip_config.json and a weights file |
    | `hf-hub:ORG/MODEL` | the same from the Hugging Face Hub |

    CLIP computes in float16 on a GPU and in float32 on a CPU. `bilinear` resizes images as the authors of MCM
    did, not as the model's own preprocessing does; it is another encoder then, with another fingerprint.

    Raises:
        EncoderLoadError: a malformed or unknown SPEC, an unusable device, or weights that are missing,
            damaged or of another architecture; one line that says what to do.
        MissingExtra: torch, open_clip or the built-in weights are not installed.
    """
    if spec == BUILTIN:
        if bilinear:
            raise EncoderLoadError("the built-in encoder has no bilinear form; name a CLIP encoder")
        return _load_builtin(device)
    return _load_clip(parse_spec(spec), device, bilinear)


def parse_spec(spec: str) -> ClipSpec:
    """The parts of a CLIP SPEC; whether they exist is seen when they are loaded.

    Raises:
        EncoderLoadError: malformed.
    """
    for prefix in (LOCAL_DIR, HUB):
        if spec.startswith(prefix) and spec != prefix:
            return ClipSpec(spec, spec)
    name, _, weights = spec.partition("/")
    if not name or not weights or weights in (FILE, RANDOM) or name.startswith((LOCAL_DIR, HUB)):
        raise EncoderLoadError(f"{spec!r} names no encoder; write {_FORMS}")
    return ClipSpec(spec, name, weights)


def describe_encoder(encoder: Encoder) -> str:
    """One line for logs: what runs, on what, and what must be known of it."""
    line = (
        f"{encoder.name} ({encoder.activation}, {encoder.image_size} px, dim {encoder.dim}, {encoder.dtype} "
        f"on {encoder.device}, fingerprint {encoder.fingerprint[:12]})"
    )
    return f"{line}: {encoder.note}" if encoder.note else line


def _load_clip(spec: ClipSpec, device: str, bilinear: bool) -> Encoder:
    try:
        from mcm.encoders.clip import load_clip
    except ImportError as error:
        raise MissingExtra("clip", f"the encoder {spec.text}") from error
    return load_clip(spec, device, bilinear=bilinear)


def _load_builtin(device: str) -> Encoder:
    try:
        from mcm.encoders.builtin import load_builtin
    except ImportError as error:
        raise MissingExtra("builtin", "the built-in encoder") from error
    return load_builtin(device)
