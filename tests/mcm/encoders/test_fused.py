"""The fused blocks give what open_clip's own give, or are not used."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from mcm.encoders import Encoder, fused
from mcm.encoders.fused import FusedBlock, fuse
from mcm.encoders.text_tower import encode_ids

SIZE = 64
VISION = {"image_size": SIZE, "layers": 3, "width": 48, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}


def model(*, quick_gelu: bool = False, vision: dict[str, Any] | None = None) -> open_clip.CLIP:
    torch.manual_seed(0)
    built = open_clip.CLIP(32, VISION | (vision or {}), TEXT, quick_gelu=quick_gelu)
    with torch.no_grad():  # biases start at zero, where a mistake with them would not show
        for name, weight in built.named_parameters():
            if "bias" in name or "gamma" in name:
                weight.normal_(std=0.5)
    return built.eval().requires_grad_(False)


def images() -> torch.Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize(
    "vision",
    [{}, {"ls_init_value": 0.1}, {"pool_type": "avg", "final_ln_after_pool": True}, {"mlp_ratio": 2.5}],
)
def test_a_fused_model_gives_the_same_features(quick_gelu: bool, vision: dict[str, Any]) -> None:
    clip = model(quick_gelu=quick_gelu, vision=vision)
    ids = open_clip.tokenize(["a cat", "a dog that sleeps on the sofa"], context_length=20)
    plain = clip.encode_image(images()), clip.encode_text(ids)
    assert fuse(clip) == 6
    torch.testing.assert_close(clip.encode_image(images()), plain[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(clip.encode_text(ids), plain[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_last_block_may_compute_the_class_token_only(n: int) -> None:
    block = model().visual.transformer.resblocks[-1]
    tokens = torch.randn(n, 17, 48)
    torch.testing.assert_close(
        FusedBlock(block, first_only=True)(tokens), block(tokens)[:, :1], rtol=1e-5, atol=1e-5
    )


def test_only_a_tower_read_at_its_class_token_leaves_the_other_tokens_out() -> None:
    by_token, by_average = model(), model(vision={"pool_type": "avg"})
    fuse(by_token)
    fuse(by_average)
    assert by_token.visual.transformer.resblocks[-1].first_only
    assert not by_average.visual.transformer.resblocks[-1].first_only
    assert not by_token.transformer.resblocks[-1].first_only


def test_the_value_road_is_the_block_with_each_token_attending_to_itself() -> None:
    block = model().visual.transformer.resblocks[-1]
    token = torch.randn(4, 1, 48)
    torch.testing.assert_close(FusedBlock(block).values(token), block(token), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vision", [{"block_type": "custom", "qk_norm": True}, {"attentional_pool": True}])
def test_towers_of_another_make_give_what_they_gave(vision: dict[str, Any]) -> None:
    clip = model(vision=vision)
    plain = clip.encode_image(images())
    fuse(clip)
    torch.testing.assert_close(clip.encode_image(images()), plain, rtol=1e-5, atol=1e-5)


def test_half_precision_is_left_alone() -> None:
    assert fuse(model().half()) == 0


class Wrong(fused.PackedLinear):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) * 1.01


class Absent(fused.PackedLinear):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("no such operator")


@pytest.mark.parametrize("operator", [Wrong, Absent])
def test_a_torch_whose_operators_are_absent_or_wrong_is_used_without_them(
    operator: type[fused.PackedLinear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "PackedLinear", operator)
    clip = model()
    plain = clip.encode_image(images())
    assert fuse(clip) == 0
    torch.testing.assert_close(clip.encode_image(images()), plain, rtol=0, atol=0)


@pytest.mark.parametrize("words", [1, 5, 6, 7, 17, 18, 30])
def test_texts_without_their_padding_have_the_same_features(words: int) -> None:
    clip = model()
    ids = open_clip.tokenize(["cat", "dog " * words], context_length=20)
    torch.testing.assert_close(encode_ids(clip, ids), clip.encode_text(ids), rtol=1e-5, atol=1e-5)


def test_a_text_tower_that_is_not_causal_reads_the_padding_too() -> None:
    torch.manual_seed(0)
    clip = open_clip.CLIP(32, VISION, TEXT | {"no_causal_mask": True}).eval()
    ids = open_clip.tokenize(["cat"], context_length=20)
    torch.testing.assert_close(encode_ids(clip, ids), clip.encode_text(ids), rtol=0, atol=0)


def test_texts_of_mixed_lengths_come_back_in_order(tiny_clip: Encoder) -> None:
    texts = [f"{'cat ' * (i * 7 % 23)}dog {i}" for i in range(150)]
    rows = tiny_clip.encode_texts(texts)
    alone = np.concatenate([tiny_clip.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(rows, alone, rtol=0, atol=1e-6)
