"""Batches of pixels on their way to the device."""

import threading

import numpy as np
import torch

from mcm.encoders.protocol import Pixels


class Staging:
    """Copies batches (n, 3, h, w) uint8 to `device`.

    For a GPU the copy goes through one page-locked buffer that is used again and again, and the batch is
    padded with black to `bucket(n)` images, so that few shapes occur: each new one costs kernels to be chosen
    and memory to be set aside. `for_gpu` is whether the device is one.
    """

    def __init__(self, device: torch.device, *, for_gpu: bool | None = None) -> None:
        self._device = device
        self._for_gpu = device.type == "cuda" if for_gpu is None else for_gpu
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._lock = threading.Lock()  # the buffer must not be filled again before it has been copied

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """The batch on the device: its first n rows are `pixels`."""
        if not self._for_gpu:
            return torch.tensor(pixels, device=self._device)
        with self._lock:
            staged = self._room((bucket(len(pixels)), *pixels.shape[1:]))
            staged[: len(pixels)].copy_(torch.from_numpy(np.ascontiguousarray(pixels)))
            staged[len(pixels) :].zero_()
            return staged.to(self._device, copy=True)

    def _room(self, shape: tuple[int, ...]) -> torch.Tensor:
        size = int(np.prod(shape))
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        return self._buffer[:size].reshape(shape)


def bucket(n: int) -> int:
    """The power of two that holds n."""
    return 1 << (n - 1).bit_length()
