"""Encoders: the protocol, and `load_encoder("SPEC")`. Importing this loads no torch."""

from mcm.encoders.protocol import Encoder, PatchEncoder, Pixels, require_patches
from mcm.encoders.spec import describe_encoder, load_encoder

__all__ = ["Encoder", "PatchEncoder", "Pixels", "describe_encoder", "load_encoder", "require_patches"]
