"""How near the encoder comes to what the cores can do: `python -m benchmarks.flops`.

Operations of open_clip's forward (counted by torch) times our images a second, against the fastest matrix
product of the same shapes. Ours leaves out 7 % of them: the last block computes the class token only.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rivals.scorers import OpenClip
from benchmarks.speed import CONCEPTS, SPEC
from mcm.encoders import load_encoder
from mcm.encoders.fused import PackedLinear

SECONDS = 6.0
ROUNDS = 3
BATCH = 32
TOKENS, WIDTH, WIDE = 50, 768, 3072  # B/32


def per_second(work: Callable[[], object]) -> float:
    """How often a second, the best of some rounds."""
    work()
    best = 0.0
    for _ in range(ROUNDS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() < start + SECONDS / ROUNDS:
            work()
            count += 1
        best = max(best, count / (time.perf_counter() - start))
    return best


def forward_flops(plain: OpenClip) -> int:
    """Operations of open_clip's image forward, one image."""
    # In training mode, for in the other attention is one operator, which the counter does not see into.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain.model.train().visual(torch.zeros(1, 3, 224, 224))
    plain.model.eval()
    return int(counter.get_total_flops())


def main() -> None:
    torch.manual_seed(0)
    plain, ours = OpenClip(SPEC, CONCEPTS), load_encoder(SPEC, device="cpu")
    flops = forward_flops(plain)
    table = Table("what", "images/s", "GFLOP/s")
    tokens = torch.randn(BATCH * TOKENS, WIDTH)
    for name, product in (
        ("torch's Linear", torch.nn.Linear(WIDTH, WIDE)),
        ("packed", PackedLinear(torch.randn(WIDE, WIDTH), torch.randn(WIDE))),
    ):
        with torch.inference_mode():
            rate = per_second(lambda product=product: product(tokens))  # type: ignore[misc]
        table.add_row(f"one matrix product, {name}", "", f"{2 * tokens.numel() * WIDE * rate / 1e9:.0f}")
    for batch in (1, 8, BATCH):
        pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, 224, 224), dtype=np.uint8)
        values = torch.randn(batch, 3, 224, 224)
        with torch.inference_mode():
            theirs = batch * per_second(lambda v=values: plain.model.encode_image(v))  # type: ignore[misc]
        mine = batch * per_second(lambda p=pixels: ours.encode_images(p))  # type: ignore[misc]
        table.add_row(f"open_clip's forward, batch {batch}", f"{theirs:.1f}", f"{theirs * flops / 1e9:.0f}")
        table.add_row(f"our forward, batch {batch}", f"{mine:.1f}", f"{mine * flops / 1e9:.0f}")
    Console().print(table)
    print(f"open_clip's forward: {flops / 1e9:.2f} GFLOP an image; {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
