"""Weights are data: a pickle that would run code is refused at start, and nothing of it runs."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from mcm.encoders import load_encoder
from mcm.errors import EncoderLoadError
from tests.mcm.encoders import tiny
from tests.server import SERVICE, ended

MARKER = "it-ran"


@pytest.fixture(scope="module", autouse=True)
def architecture(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`tiny-mcm` among open_clip's architectures."""
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "tiny-mcm.json").write_text(json.dumps(tiny.CONFIG))
    open_clip.add_model_config(folder)


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def plain_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Evil(marker)}))


def torch_file(path: Path, marker: Path) -> None:
    torch.save({"state_dict": {"visual.proj": torch.zeros(2), "evil": Evil(marker)}}, path)


def old_torch_file(path: Path, marker: Path) -> None:
    torch.save({"evil": Evil(marker)}, path, _use_new_zipfile_serialization=False)


def torchscript_look_alike(path: Path, marker: Path) -> None:
    """The archive that OpenAI's own files are, with a pickle of ours as its data."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"model/{name}", pickle.dumps(Evil(marker)))
        archive.writestr("model/version", "3\n")


KINDS: list[Callable[[Path, Path], None]] = [plain_pickle, torch_file, old_torch_file, torchscript_look_alike]


def assert_refused(folder: Path, spec: str) -> None:
    with pytest.raises(EncoderLoadError, match="cannot read the weights file"):
        load_encoder(spec, device="cpu")
    assert not (folder / MARKER).exists(), "the pickle ran"


def test_a_malicious_weights_file_ends_the_start_and_does_not_run(tmp_path: Path) -> None:
    torch_file(tmp_path / "evil.pt", tmp_path / MARKER)
    code, lines = ended(tmp_path, SERVICE, encoder=f"ViT-B-32/file:{tmp_path / 'evil.pt'}", device="cpu")
    assert code == 1
    assert lines[-1].startswith("error: cannot read the weights file ")
    assert "Traceback" not in "\n".join(lines)
    assert not (tmp_path / MARKER).exists(), "the pickle ran"


def test_the_malicious_file_is_what_it_claims_to_be(tmp_path: Path) -> None:
    plain_pickle(tmp_path / "evil.pt", tmp_path / MARKER)
    pickle.loads((tmp_path / "evil.pt").read_bytes())
    assert (tmp_path / MARKER).exists()


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".safetensors"])
def test_no_form_and_no_suffix_lets_a_pickle_in(
    make: Callable[[Path, Path], None], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"evil{suffix}"
    make(path, tmp_path / MARKER)
    assert_refused(tmp_path, f"tiny-mcm/file:{path}")


def test_a_folder_of_weights_lets_no_pickle_in(tmp_path: Path) -> None:
    folder = tiny.write_local_dir(tmp_path / "model", weights="open_clip_pytorch_model.bin")
    torch_file(folder / "open_clip_pytorch_model.bin", tmp_path / MARKER)
    assert_refused(tmp_path, f"local-dir:{folder}")
