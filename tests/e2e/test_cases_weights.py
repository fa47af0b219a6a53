"""Rows of CASES.md that concern weights and preprocessing, through the real service: 25, 26, 27."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from tests.calls import files
from tests.mcm.encoders import tiny
from tests.server import SERVICE, ended, running
from tests.shared import shared

SPEC = "ViT-B-32-quickgelu/random:0"


def model_of(folder: Path, spec: str) -> dict[str, Any]:
    """What /v1/models says of the encoder `spec`."""
    with running(folder, SERVICE, encoder=spec, device="cpu") as server:
        model = httpx.get(f"{server.url}/v1/models", trust_env=False).json()["models"][0]
    return dict(model)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        running(tmp_path_factory.mktemp("weights"), SERVICE, encoder=SPEC, device="cpu") as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=120) as http,
    ):
        yield http


# ---- row 25: dtype


def test_row_25_a_cpu_computes_in_float32(http: httpx.Client) -> None:
    model = http.get("/v1/models").json()["models"][0]
    assert (model["device"], model["dtype"]) == ("cpu", "float32")
    assert "untrained" in model["note"]


def test_row_25_weights_that_give_nan_never_become_ready(tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    tiny.write_config(folder, tiny.CONFIG, tiny.PREPROCESSING)
    state = tiny.state_dict()
    state["visual.proj"] = torch.full_like(state["visual.proj"], float("nan"))
    tiny.save(state, folder / "open_clip_model.safetensors")
    code, lines = ended(tmp_path, SERVICE, encoder=f"local-dir:{folder}", device="cpu")
    assert code == 1
    assert lines[-1].startswith("error: "), lines[-1]


# ---- row 26: activation


def test_row_26_the_activation_is_shown_and_changes_the_fingerprint(tmp_path: Path) -> None:
    models = []
    for quick in (False, True):
        folder = tiny.write_local_dir(tmp_path / f"quick-{quick}", model=tiny.CONFIG | {"quick_gelu": quick})
        models.append(model_of(tmp_path, f"local-dir:{folder}"))
    assert [model["activation"] for model in models] == ["GELU", "QuickGELU"]
    assert models[0]["fingerprint"] != models[1]["fingerprint"]


def test_row_26_openai_weights_under_a_plain_configuration_end_the_service(tmp_path: Path) -> None:
    folder = tmp_path / "openai"
    tiny.write_config(folder, tiny.CONFIG, tiny.PREPROCESSING)
    marks = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    tiny.save(tiny.state_dict() | marks, folder / "open_clip_pytorch_model.bin")
    code, lines = ended(tmp_path, SERVICE, encoder=f"local-dir:{folder}", device="cpu")
    assert code == 1
    assert "quick_gelu" in lines[-1]


# ---- row 27: preprocessing


def large(blob: bytes) -> bytes:
    """A 12-megapixel copy of a photograph."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(blob)) as image:
        image.convert("RGB").resize((4000, 3000), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.mark.timeout(900)
def test_row_27_a_hundred_photographs_are_embedded_as_by_open_clips_own_pipeline(http: httpx.Client) -> None:
    photographs = [path.read_bytes() for path in sorted(shared("images").glob("*.jpg"))[::5]]
    blobs = [*photographs, large(photographs[0]), large(photographs[50])]
    answer = http.post("/v1/embed", files=files(*blobs)).json()
    ours = np.array([result["embedding"] for result in answer["results"]])
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    model.eval()
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.open(io.BytesIO(blob)).convert("RGB")) for blob in blobs])
        theirs = model.encode_image(pixels, normalize=True).numpy()
    assert len(ours) == 102
    assert (ours * theirs).sum(axis=1).min() >= 0.999
