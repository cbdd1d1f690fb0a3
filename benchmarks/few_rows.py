"""A few rows through a large matrix: our order of the product against `torch.nn.functional.linear`.

    python benchmarks/few_rows.py

Prints GB/s of weights read, best of seven rounds taken in turn, in float32 without gradients, for the shapes of a
30M language model. Above `blocks.linear.FEW` rows both are the same call.
"""

import argparse
import os
import time
from collections.abc import Callable

import torch

from diptych.blocks.linear import linear

SHAPES = ((512, 512), (1376, 512), (512, 1376), (16384, 512))
TOGETHER = 120e6  # bytes of weights, more than a cache holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for out, width in SHAPES:
        weights = [torch.randn(out, width) for _ in range(max(1, int(TOGETHER / 4 / out / width)))]
        for rows in options.rows:
            theirs, ours = rates(torch.randn(rows, width), weights)
            print(f"[{out}, {width}], {rows} rows: torch {theirs:5.1f} GB/s, ours {ours:5.1f}, {ours / theirs:.2f} x")


@torch.no_grad()
def rates(x: torch.Tensor, weights: list[torch.Tensor]) -> tuple[float, float]:
    """GB/s of torch and of ours, whose results are the same but for rounding."""
    ways: tuple[Callable[..., torch.Tensor], ...] = (torch.nn.functional.linear, linear)
    torch.testing.assert_close(ways[0](x, weights[0]), ways[1](x, weights[0]), rtol=1e-4, atol=1e-4)
    best = [float("inf")] * 2
    for _ in range(7):
        for i, way in enumerate(ways):
            start = time.perf_counter()
            for weight in weights:
                way(x, weight)
            best[i] = min(best[i], time.perf_counter() - start)
    size = sum(weight.nbytes for weight in weights) / 1e9
    return size / best[0], size / best[1]


if __name__ == "__main__":
    main()
