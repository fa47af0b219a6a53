"""`python -m tests.mcm.cli.fake_mcm`: the `mcm` command with the colour encoder in place of any other."""

from mcm.cli import local, main
from mcm.encoders import Encoder
from tests.fakes import PatchColourEncoder


def load_colours(spec: str, *, device: str = "auto", bilinear: bool = False) -> Encoder:
    """The colour encoder; a SPEC of another name, or another form, gives one with another fingerprint."""
    fingerprint = "colours-1" if spec in ("builtin", "colours") else spec
    encoder = PatchColourEncoder(fingerprint + "-bilinear" * bilinear)
    encoder.name = spec
    return encoder


if __name__ == "__main__":
    local.load_encoder = load_colours  # type: ignore[attr-defined]
    main()
