"""Encoders: the protocol, and `load_encoder("SPEC")`."""

from mcm.encoders.protocol import Encoder, Pixels

__all__ = ["Encoder", "Pixels", "load_encoder"]


def load_encoder(spec: str, *, device: str = "auto") -> Encoder:
    """Load the encoder that `spec` names."""
    raise NotImplementedError
