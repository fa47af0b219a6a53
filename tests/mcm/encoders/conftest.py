"""The encoders, loaded once a session, and photographs."""

from pathlib import Path

import pytest
from PIL import Image

from mcm.encoders import Encoder, PatchEncoder, load_encoder, require_patches
from mcm.images import load_image
from tests.fakes import ColourEncoder, PatchColourEncoder
from tests.mcm.encoders import tiny
from tests.shared import shared

B32 = "ViT-B-32-quickgelu/random:0"


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """50 photographs, spread over the 500."""
    files = sorted(shared("images").glob("*.jpg"))[::10]
    return [load_image(file.read_bytes()) for file in files]


@pytest.fixture(scope="session")
def b32() -> Encoder:
    return load_encoder(B32, device="cpu")


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    folder = tmp_path_factory.mktemp("models") / "resnet"
    tiny.write_local_dir(folder, model=tiny.CONFIG | {"vision_cfg": vision})
    return load_encoder(f"local-dir:{folder}", device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_local_dir(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_clip(tiny_folder: Path) -> Encoder:
    return load_encoder(f"local-dir:{tiny_folder}", device="cpu")


@pytest.fixture(scope="session")
def builtin() -> Encoder:
    return load_encoder("builtin", device="cpu")


@pytest.fixture(params=["colours", "tiny_clip", "b32", "builtin"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Each encoder in turn, for the contract that all of them keep."""
    if request.param == "colours":
        return ColourEncoder()
    encoder: Encoder = request.getfixturevalue(request.param)
    return encoder


@pytest.fixture(params=["colours", "tiny_clip", "b32", "tiny_resnet", "builtin"])
def patch_encoder(request: pytest.FixtureRequest) -> PatchEncoder:
    """Each encoder that gives patches."""
    if request.param == "colours":
        return PatchColourEncoder()
    return require_patches(request.getfixturevalue(request.param))
