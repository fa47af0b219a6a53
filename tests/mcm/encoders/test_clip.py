"""The CLIP encoder equals open_clip's own pipeline on the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mcm.definition import define
from mcm.encoders import Encoder, load_encoder
from mcm.errors import EncoderError
from mcm.prompts import build_detector
from tests.mcm.encoders import tiny
from tests.mcm.encoders.conftest import B32

NAMES = ["cat", "dog", "great white shark", "laptop"]
SEVEN = open_clip.OPENAI_IMAGENET_TEMPLATES[:7]


class Own:
    """open_clip's own model, transform and tokenizer."""

    def __init__(self, name: str, **options: Any) -> None:
        torch.manual_seed(0)
        self.model, _, self.transform = open_clip.create_model_and_transforms(name, **options)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)

    def pixels(self, image: Image.Image) -> NDArray[np.float64]:
        config = open_clip.get_model_preprocess_cfg(self.model)
        mean, std = (np.reshape(config[key], (3, 1, 1)) for key in ("mean", "std"))
        return np.asarray((self.transform(image).numpy() * std + mean) * 255, dtype=np.float64)

    def images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        with torch.no_grad():
            batch = torch.stack([self.transform(image) for image in images])
            rows = self.model.encode_image(batch, normalize=True)
        return np.asarray(rows.numpy(), dtype=np.float32)

    def classes(self, names: list[str], templates: list[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            matrix = open_clip.build_zero_shot_classifier(
                self.model, self.tokenizer, names, templates, num_classes_per_batch=None
            )
        return np.asarray(matrix.numpy().T, dtype=np.float32)


@pytest.fixture(scope="module")
def own_b32() -> Own:
    return Own("ViT-B-32-quickgelu")


@pytest.fixture(scope="module")
def own_tiny(tiny_folder: Path) -> Own:
    return Own(f"local-dir:{tiny_folder}")


@pytest.fixture(scope="module", params=["b32", "tiny_clip"])
def pair(request: pytest.FixtureRequest) -> tuple[Encoder, Own]:
    """Ours and open_clip's."""
    own = {"b32": "own_b32", "tiny_clip": "own_tiny"}[request.param]
    return request.getfixturevalue(request.param), request.getfixturevalue(own)


def test_pixels_equal_open_clips(pair: tuple[Encoder, Own], photographs: list[Image.Image]) -> None:
    ours, own = pair
    for image in photographs:
        np.testing.assert_allclose(ours.prepare(image), own.pixels(image), rtol=0, atol=1)


def test_image_embeddings_equal_open_clips(pair: tuple[Encoder, Own], photographs: list[Image.Image]) -> None:
    ours, own = pair
    rows = ours.encode_images(np.stack([ours.prepare(image) for image in photographs]))
    np.testing.assert_allclose(rows, own.images(photographs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7])
def test_concept_embeddings_equal_open_clips(pair: tuple[Encoder, Own], count: int) -> None:
    ours, own = pair
    templates = [template("{}") for template in SEVEN[:count]]
    detector = build_detector(define(NAMES, templates=templates), ours)
    np.testing.assert_allclose(detector.matrix, own.classes(NAMES, SEVEN[:count]), rtol=0, atol=1e-5)


def test_a_local_folder_brings_its_own_preprocessing(tiny_clip: Encoder) -> None:
    """The tiny folder's mean, std and interpolation are not open_clip's defaults (open_clip issue 1068)."""
    image = Image.effect_noise((300, 200), 80).convert("RGB")
    default = open_clip.image_transform(64, is_train=False, interpolation="bicubic").transforms[:2]
    cropped = image
    for step in default:
        cropped = step(cropped)
    assert np.abs(tiny_clip.prepare(image).astype(int) - np.asarray(cropped).transpose(2, 0, 1)).max() > 5


def test_a_seed_gives_the_same_encoder_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    twins = [load_encoder("ViT-S-32-alt/random:3", device="cpu") for _ in range(2)]
    assert twins[0].fingerprint == twins[1].fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    assert load_encoder("ViT-S-32-alt/random:4", device="cpu").fingerprint != twins[0].fingerprint


def test_it_says_what_it_is(b32: Encoder, tiny_clip: Encoder) -> None:
    assert b32.name == B32
    assert b32.activation == "QuickGELU"
    assert (b32.dim, b32.image_size, b32.max_text_tokens) == (512, 224, 77)
    assert b32.note == "untrained weights, for tests and benchmarks only"
    assert tiny_clip.activation == "GELU"
    assert (tiny_clip.dim, tiny_clip.image_size, tiny_clip.max_text_tokens) == (32, 64, 20)
    assert tiny_clip.note == ""


def test_the_start_and_the_end_token_count_towards_the_limit(b32: Encoder) -> None:
    assert b32.truncated(["cat " * 75, "cat " * 76]) == [False, True]


def test_a_cut_text_means_what_its_beginning_means(b32: Encoder) -> None:
    long, longer = b32.encode_texts(["cat " * 76, "cat " * 76 + "dog " * 76])
    np.testing.assert_allclose(long, longer, rtol=0, atol=1e-6)


def test_an_embedding_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    state = tiny.state_dict()
    state["visual.proj"][0, 0] = float("nan")
    folder = tmp_path / "nan"
    tiny.write_config(folder, tiny.CONFIG, tiny.PREPROCESSING)
    tiny.save(state, folder / "open_clip_model.safetensors")
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    with pytest.raises(EncoderError, match="no usable embedding"):
        encoder.encode_images(encoder.prepare(Image.new("RGB", (64, 64)))[None])
    assert np.isfinite(encoder.encode_texts(["cat"])).all()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 64, 64), (1, 1, 64, 64)])
def test_pixels_of_another_shape_are_refused(tiny_clip: Encoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(EncoderError, match=r"uint8 \(n, 3, 64, 64\)"):
        tiny_clip.encode_images(np.zeros(shape, dtype=np.uint8))


def test_what_a_library_raises_becomes_an_encoder_error_with_its_cause(tiny_clip: Encoder) -> None:
    with pytest.raises(EncoderError, match="encoding texts failed") as caught:
        tiny_clip.encode_texts([5])  # type: ignore[list-item]
    assert caught.value.__cause__ is not None


def test_the_tokenizer_forgets_words(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip's tokenizer keeps every word; a service would fill its memory."""
    from mcm.encoders import tokens

    monkeypatch.setattr(tokens, "MAX_CACHED_WORDS", 10)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_folder}")
    bounded = tokens.Tokens(tokenizer)
    before = bounded.ids(["a strange word"])
    for i in range(30):
        bounded.truncated([f"word{'abcdefghij'[i % 10] * i}"])
    assert len(tokenizer.cache) <= 13
    assert torch.equal(bounded.ids(["a strange word"]), before)
