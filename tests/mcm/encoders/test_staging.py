"""Batches arrive on the device as they were, padded where that is the device's way."""

import numpy as np
import pytest
import torch

from mcm.encoders import Encoder
from mcm.encoders.protocol import Pixels
from mcm.encoders.staging import Staging, bucket

CPU = torch.device("cpu")


def pixels(n: int, side: int = 8) -> Pixels:
    return np.random.default_rng(n).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


@pytest.mark.parametrize(
    ("n", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (31, 32), (32, 32), (33, 64)]
)
def test_a_gpu_gets_batches_of_a_power_of_two_with_black_behind(n: int, padded: int) -> None:
    staged = Staging(CPU, for_gpu=True)(pixels(n)).numpy()
    assert bucket(n) == len(staged) == padded
    np.testing.assert_array_equal(staged[:n], pixels(n))
    assert not staged[n:].any()


def test_a_batch_that_was_handed_on_is_not_overwritten_by_the_next() -> None:
    staging = Staging(CPU, for_gpu=True)
    first = staging(pixels(4))
    staging(pixels(3))  # fits into the same buffer
    np.testing.assert_array_equal(first.numpy(), pixels(4))


def test_a_smaller_batch_behind_a_larger_one_carries_nothing_of_it() -> None:
    staging = Staging(CPU, for_gpu=True)
    staging(np.full((8, 3, 8, 8), 255, dtype=np.uint8))
    staged = staging(pixels(3)).numpy()
    np.testing.assert_array_equal(staged[:3], pixels(3))
    assert not staged[3:].any()


def test_views_with_other_strides_arrive_in_order() -> None:
    mirrored = pixels(3)[:, :, :, ::-1]
    np.testing.assert_array_equal(Staging(CPU, for_gpu=True)(mirrored).numpy()[:3], mirrored)


def test_a_cpu_gets_the_batch_as_it_is() -> None:
    np.testing.assert_array_equal(Staging(CPU)(pixels(5)).numpy(), pixels(5))


def test_padding_does_not_reach_the_embeddings(tiny_clip: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tiny_clip.encode_images(pixels(5, side=64))
    whole = Staging.__call__
    as_for_gpu = Staging(CPU, for_gpu=True)
    monkeypatch.setattr(Staging, "__call__", lambda _, batch: whole(as_for_gpu, batch))
    np.testing.assert_allclose(tiny_clip.encode_images(pixels(5, side=64)), alone, rtol=0, atol=1e-6)
