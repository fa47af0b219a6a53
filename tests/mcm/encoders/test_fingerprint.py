"""The fingerprint covers every part, and nothing else."""

from typing import Any

import pytest
import torch

from mcm.encoders.fingerprint import fingerprint
from mcm.encoders.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(resize=(8, 8), crop=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PARTS: dict[str, Any] = {
    "architecture": {"width": 8, "layers": [1, 2]},
    "activation": "GELU",
    "weights": {"a": torch.arange(4.0), "b": torch.zeros(2, 2)},
    "preprocessing": PREPROCESSING,
    "dtype": "float32",
}


def test_the_same_parts_give_the_same_fingerprint_on_every_machine() -> None:
    golden = "724400a13949e49b60d4baf07af0e959fa29ea1741cb8ae380871418721f32c1"
    assert fingerprint(**PARTS) == golden


def test_the_order_and_the_memory_layout_of_tensors_do_not_count() -> None:
    turned = {"b": torch.zeros(2, 2).T, "a": torch.arange(8.0)[:4]}
    assert fingerprint(**PARTS | {"weights": turned}) == fingerprint(**PARTS)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"width": 8, "layers": [2, 1]}},
        {"activation": "QuickGELU"},
        {"dtype": "float16"},
        {"weights": {"a": torch.arange(4.0), "c": torch.zeros(2, 2)}},
        {"weights": {"a": torch.arange(4.0), "b": torch.zeros(4)}},
        {"weights": {"a": torch.arange(4.0).half(), "b": torch.zeros(2, 2)}},
        {"weights": {"a": torch.tensor([0, 1, 2, 3 + 1e-6]), "b": torch.zeros(2, 2)}},
        {"preprocessing": Preprocessing((8, 8), (8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")},
    ],
)
def test_any_other_part_gives_another_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**PARTS | change) != fingerprint(**PARTS)
