"""Weights from files and folders: the same ones are the same encoder, wrong ones are clear errors."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from mcm.encoders import Encoder, load_encoder
from mcm.errors import EncoderLoadError
from tests.mcm.encoders import tiny
from tests.pictures import scene

QUICK = tiny.CONFIG | {"quick_gelu": True}


@pytest.fixture(scope="module", autouse=True)
def architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`tiny-mcm` and its QuickGELU form among open_clip's architectures."""
    import json

    folder = tmp_path_factory.mktemp("architectures")
    for name, config in {"tiny-mcm": tiny.CONFIG, "tiny-mcm-quickgelu": QUICK}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def load(spec: str) -> Encoder:
    return load_encoder(spec, device="cpu")


def refusal(spec: str) -> str:
    """The message of the error, which is one line."""
    with pytest.raises(EncoderLoadError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_embeddings(one: Encoder, other: Encoder) -> bool:
    pixels = one.prepare(scene())[None]
    images = np.array_equal(one.encode_images(pixels), other.encode_images(pixels))
    return images and np.array_equal(one.encode_texts(["a cat"]), other.encode_texts(["a cat"]))


# ---- the same weights by several roads


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin", ".pth"])
def test_a_file_and_an_equivalent_folder_are_the_same_encoder(tmp_path: Path, suffix: str) -> None:
    state = tiny.state_dict()
    file = load(f"tiny-mcm/file:{tiny.save(state, tmp_path / f'weights{suffix}')}")
    default = open_clip.get_model_preprocess_cfg(open_clip.create_model("tiny-mcm", load_weights=False))
    folder = tiny.write_local_dir(tmp_path / "folder", preprocessing=default, weights="open_clip_model.pt")
    other = load(f"local-dir:{folder}")
    assert file.fingerprint == other.fingerprint
    assert same_embeddings(file, other)


def test_saved_weights_of_a_real_architecture_come_back_the_same(b32: Encoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = open_clip.create_model("ViT-B-32-quickgelu").state_dict()
    path = tiny.save(state, tmp_path / "open_clip_model.safetensors")
    del state
    again = load(f"ViT-B-32-quickgelu/file:{path}")
    tiny.write_config(
        tmp_path,
        open_clip.get_model_config("ViT-B-32-quickgelu"),
        open_clip.get_pretrained_cfg("ViT-B-32-quickgelu", "openai"),
    )
    folder = load(f"local-dir:{tmp_path}")
    assert again.fingerprint == folder.fingerprint == b32.fingerprint
    assert same_embeddings(again, folder)
    assert same_embeddings(again, b32)
    assert again.note == folder.note == ""


def test_the_checkpoint_of_a_training_run_is_read(tmp_path: Path) -> None:
    state = tiny.state_dict()
    plain = load(f"tiny-mcm/file:{tiny.save(state, tmp_path / 'plain.pt')}")
    wrapped: dict[str, Any] = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(wrapped, tmp_path / "checkpoint.pt")
    assert load(f"tiny-mcm/file:{tmp_path / 'checkpoint.pt'}").fingerprint == plain.fingerprint


def with_text(**changes: Any) -> dict[str, Any]:
    return tiny.CONFIG | {"text_cfg": tiny.CONFIG["text_cfg"] | changes}


CHANGES: dict[str, Callable[[Path], Any]] = {
    "weights": lambda folder: tiny.write_local_dir(folder, seed=2),
    "activation": lambda folder: tiny.write_local_dir(folder, model=QUICK),
    "mean": lambda folder: tiny.write_local_dir(
        folder, preprocessing=tiny.PREPROCESSING | {"mean": [0.5, 0.4, 0.31]}
    ),
    "interpolation": lambda folder: tiny.write_local_dir(
        folder, preprocessing=tiny.PREPROCESSING | {"interpolation": "bicubic"}
    ),
    "heads": lambda folder: tiny.write_local_dir(folder, model=with_text(heads=4)),
    "tokenizer": lambda folder: tiny.write_local_dir(
        folder,
        model=tiny.CONFIG
        | {"text_cfg": tiny.CONFIG["text_cfg"] | {"tokenizer_kwargs": {"clean": "whitespace"}}},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_all_that_decides_an_embedding_changes_the_fingerprint(
    tiny_clip: Encoder, tmp_path: Path, change: str
) -> None:
    CHANGES[change](tmp_path / "changed")
    assert load(f"local-dir:{tmp_path / 'changed'}").fingerprint != tiny_clip.fingerprint


def test_spelled_out_defaults_change_nothing(tiny_clip: Encoder, tmp_path: Path) -> None:
    text = tiny.CONFIG["text_cfg"] | {"mlp_ratio": 4.0, "pool_type": "argmax"}
    model = tiny.CONFIG | {"text_cfg": text, "quick_gelu": False, "custom_text": False}
    folder = tiny.write_local_dir(tmp_path / "spelled")
    tiny.write_config(folder, model, tiny.PREPROCESSING)
    assert load(f"local-dir:{folder}").fingerprint == tiny_clip.fingerprint


# ---- files that cannot be used


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    for suffix in (".pt", ".bin", ".safetensors"):
        path = tiny.save(tiny.state_dict(), tmp_path / f"weights{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        assert f"cannot read the weights file {path}: it is damaged" in refusal(f"tiny-mcm/file:{path}")


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1"]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_weights_file_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "cannot read the weights file" in refusal(f"tiny-mcm/file:{path}")


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"state_dict": {}}, {"epoch": 1}, Path("object"), torch.ones(2)]
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert "state dict" in refusal(f"tiny-mcm/file:{tmp_path / 'weights.pt'}")


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").touch()
    assert ".safetensors" in refusal(f"tiny-mcm/file:{tmp_path / 'weights.npz'}")


def test_an_incomplete_state_dict_is_told_what_is_missing(tmp_path: Path) -> None:
    state = tiny.state_dict()
    del state["visual.proj"]
    state["visual.extra"] = torch.ones(1)
    message = refusal(f"tiny-mcm/file:{tiny.save(state, tmp_path / 'weights.pt')}")
    assert "does not fit tiny-mcm: 1 entries missing (visual.proj ...), 1 entries unexpected" in message


def test_weights_of_another_width_are_told_what_differs(tmp_path: Path) -> None:
    path = tiny.save(tiny.state_dict(tiny.CONFIG | {"embed_dim": 16}), tmp_path / "weights.safetensors")
    assert "2 entries of another size (text_projection ...)" in refusal(f"tiny-mcm/file:{path}")


@pytest.mark.parametrize(
    ("tower", "change", "what"),
    [("vision_cfg", {"image_size": 80}, "image size"), ("text_cfg", {"context_length": 24}, "text length")],
)
def test_weights_for_another_size_are_refused_rather_than_resized(
    tmp_path: Path, tower: str, change: dict[str, int], what: str
) -> None:
    """open_clip interpolates their positional embeddings without a word."""
    state = tiny.state_dict(tiny.CONFIG | {tower: tiny.CONFIG[tower] | change})
    message = refusal(f"tiny-mcm/file:{tiny.save(state, tmp_path / 'weights.pt')}")
    assert f"it is for another {what}" in message


# ---- folders that cannot be used


def test_a_folder_without_weights_is_refused_rather_than_random(tmp_path: Path) -> None:
    tiny.write_config(tmp_path, tiny.CONFIG, tiny.PREPROCESSING)
    assert "holds no weights file" in refusal(f"local-dir:{tmp_path}")


def test_a_folder_with_several_weights_files_must_say_which(tmp_path: Path) -> None:
    folder = tiny.write_local_dir(tmp_path, weights="a.pt")
    (folder / "b.pt").write_bytes((folder / "a.pt").read_bytes())
    assert "several weights files (a.pt, b.pt)" in refusal(f"local-dir:{folder}")
    tiny.write_local_dir(folder, weights="open_clip_pytorch_model.bin")
    assert load(f"local-dir:{folder}").dim == 32


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"model_cfg": 3}', '{"model_cfg": {"embed_dim": 3}}', '{"model_cfg": {"x": 1}}'],
)
def test_a_folder_with_a_bad_config_is_refused(tiny_folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(content)
    (tmp_path / "open_clip_model.safetensors").symlink_to(tiny_folder / "open_clip_model.safetensors")
    refusal(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    "bad", [{"interpolation": "nearest"}, {"std": [0, 0, 0]}, {"mean": "x"}, {"mean": [1]}]
)
def test_a_folder_with_bad_preprocessing_is_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    refusal(f"local-dir:{tiny.write_local_dir(tmp_path, preprocessing=tiny.PREPROCESSING | bad)}")


# ---- mean and std (open_clip issue 1068)


def test_a_folder_that_does_not_say_mean_and_std_gets_a_note(tmp_path: Path) -> None:
    silent = load(f"local-dir:{tiny.write_local_dir(tmp_path / 'a', preprocessing=None)}")
    assert silent.note == "open_clip_config.json has no mean and no std in preprocess_cfg: OpenAI's are taken"
    half = {key: value for key, value in tiny.PREPROCESSING.items() if key != "std"}
    assert "has no std" in load(f"local-dir:{tiny.write_local_dir(tmp_path / 'b', preprocessing=half)}").note


def test_a_file_of_an_architecture_without_published_weights_gets_a_note(tmp_path: Path) -> None:
    encoder = load(f"tiny-mcm/file:{tiny.save(tiny.state_dict(), tmp_path / 'weights.pt')}")
    assert "published weights of tiny-mcm do not exist" in encoder.note
    assert "local-dir:PATH" in encoder.note


def publish(monkeypatch: pytest.MonkeyPatch, name: str, **tags: dict[str, Any]) -> None:
    """Put tags of an architecture into open_clip's registry."""
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)


def entry(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_e16")
    return usual | {"hf_hub": "", "url": ""} | changes


def test_a_file_is_prepared_as_the_published_weights_of_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with OpenAI's mean and std, which open_clip takes for every file."""
    path = tiny.save(tiny.state_dict(), tmp_path / "open_clip_model.pt")
    publish(monkeypatch, "tiny-mcm", a=entry(**tiny.PREPROCESSING), b=entry(**tiny.PREPROCESSING))
    file = load(f"tiny-mcm/file:{path}")
    tiny.write_config(tmp_path, tiny.CONFIG, tiny.PREPROCESSING)
    folder = load(f"local-dir:{tmp_path}")
    assert file.fingerprint == folder.fingerprint
    assert file.note == ""
    assert same_embeddings(file, folder)


def test_a_file_gets_a_note_where_the_published_weights_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.save(tiny.state_dict(), tmp_path / "weights.pt")
    publish(monkeypatch, "tiny-mcm", a=entry(**tiny.PREPROCESSING), b=entry())
    assert "published weights of tiny-mcm differ in preprocessing" in load(f"tiny-mcm/file:{path}").note


def test_a_published_file_is_known_by_its_hash_and_prepared_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.save(tiny.state_dict(), tmp_path / "weights.pt")
    short = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    known = entry(**tiny.PREPROCESSING, url=f"https://models.example/tiny-{short}.pt")
    publish(monkeypatch, "tiny-mcm", a=known, b=entry())
    encoder = load(f"tiny-mcm/file:{path}")
    assert encoder.note == ""
    publish(monkeypatch, "tiny-mcm", a=entry(**tiny.PREPROCESSING))
    assert encoder.fingerprint == load(f"tiny-mcm/file:{path}").fingerprint


# ---- QuickGELU


def publish_openai(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make the file the one that OpenAI published for tiny-mcm."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    openai = entry(quick_gelu=True, url=f"https://models.example/{sha256}/tiny.pt", file=str(path))
    publish(monkeypatch, "tiny-mcm", openai=openai)
    publish(monkeypatch, "tiny-mcm-quickgelu", openai=openai)


def test_the_tag_openai_has_quickgelu_under_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_openai(monkeypatch, tiny.save(tiny.state_dict(), tmp_path / "weights.pt"))
    plain, quick = load("tiny-mcm/openai"), load("tiny-mcm-quickgelu/openai")
    assert plain.activation == quick.activation == "QuickGELU"
    assert plain.fingerprint == quick.fingerprint
    assert same_embeddings(plain, quick)


def test_the_registry_knows_openais_weights_to_need_quickgelu() -> None:
    for name in open_clip.list_openai_models():
        assert open_clip.get_pretrained_cfg(name, "openai")["quick_gelu"], name


def test_openais_file_under_the_plain_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.save(tiny.state_dict(), tmp_path / "weights.pt")
    publish_openai(monkeypatch, path)
    assert f"use tiny-mcm-quickgelu/file:{path}" in refusal(f"tiny-mcm/file:{path}")
    assert load(f"tiny-mcm-quickgelu/file:{path}").activation == "QuickGELU"


def test_openais_file_in_a_folder_with_gelu_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_local_dir(tmp_path)
    publish_openai(monkeypatch, folder / "open_clip_model.safetensors")
    assert "set `quick_gelu` to true" in refusal(f"local-dir:{folder}")
    tiny.write_config(folder, QUICK, tiny.PREPROCESSING)
    assert load(f"local-dir:{folder}").activation == "QuickGELU"


def test_a_state_dict_with_openais_own_entries_is_known_without_its_hash(tmp_path: Path) -> None:
    extra = {"input_resolution": 64, "context_length": 20, "vocab_size": 49408}
    state = tiny.state_dict() | {key: torch.tensor(value) for key, value in extra.items()}
    path = tiny.save(state, tmp_path / "weights.pt")
    assert f"use tiny-mcm-quickgelu/file:{path}" in refusal(f"tiny-mcm/file:{path}")
    plain = tiny.save(tiny.state_dict(), tmp_path / "plain.pt")
    quick = load(f"tiny-mcm-quickgelu/file:{path}")
    assert quick.fingerprint == load(f"tiny-mcm-quickgelu/file:{plain}").fingerprint


class Scripted(torch.nn.Module):
    """A module whose state dict is that of a TorchScript archive by OpenAI."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("input_resolution", torch.tensor(64))
        for key, value in tiny.state_dict().items():
            parent: torch.nn.Module = self
            *path, last = key.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, torch.nn.Module())
                parent = parent.get_submodule(part)
            parent.register_buffer(last, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def archive(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> Path:
    """A TorchScript archive, the form in which OpenAI published CLIP."""
    torch.jit.script(Scripted()).save(tmp_path / "archive.pt")  # type: ignore[no-untyped-call]
    return tmp_path / "archive.pt"


def test_openais_torchscript_archive_is_read_where_its_hash_is_known(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(f"tiny-mcm-quickgelu/file:{tiny.save(tiny.state_dict(), tmp_path / 'plain.pt')}")
    publish_openai(monkeypatch, archive)
    assert load(f"tiny-mcm-quickgelu/file:{archive}").fingerprint == plain.fingerprint
    assert "use tiny-mcm-quickgelu/" in refusal(f"tiny-mcm/file:{archive}")


def test_a_torchscript_archive_of_unknown_origin_is_never_opened(archive: Path) -> None:
    """It carries code."""
    assert "cannot read the weights file" in refusal(f"tiny-mcm-quickgelu/file:{archive}")
