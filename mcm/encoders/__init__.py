"""Encoders: the protocol, and `load_encoder("SPEC")`. Importing this loads no torch."""

from mcm.encoders.protocol import Encoder, Pixels
from mcm.encoders.spec import describe_encoder, load_encoder

__all__ = ["Encoder", "Pixels", "describe_encoder", "load_encoder"]
