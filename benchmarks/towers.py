"""How fast the towers encode, with random weights: `python benchmarks/towers.py [--threads 2] [--seconds 3]`.

Every line is the best of several runs on the same input; the naive line of each group is the peer to compare with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from diptych.blocks.convolution import ConvNorm
from diptych.towers import (
    EfficientNetConfig,
    HFTextConfig,
    TextTransformerConfig,
    ViTConfig,
    build_text,
    build_vision,
)

MINILM = {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
MINILM |= {"num_attention_heads": 12, "vocab_size": 30522}


def measure(name: str, count: int, run: Callable[[], Any], seconds: float, *, bf16: bool) -> None:
    """Print items per second: the best of as many runs as fit in `seconds`, at least two after one to warm up."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        run()
        best, runs, end = float("inf"), 0, time.perf_counter() + seconds
        while runs < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            best, runs = min(best, time.perf_counter() - start), runs + 1
    print(f"{name:58} {count / best:9.1f} /s   (best of {runs})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    def line(name: str, count: int, run: Callable[[], Any], bf16: bool = False) -> None:
        measure(name, count, run, arguments.seconds, bf16=bf16)

    pixels = torch.randn(64, 3, 224, 224)
    last = pixels.to(memory_format=torch.channels_last)
    lite = build_vision(EfficientNetConfig(lite=True)).eval()

    def unfolded(x: torch.Tensor) -> torch.Tensor:
        """The same network as most people write it: batch norm on its own, all pictures at once."""
        for step in lite.modules():
            if isinstance(step, ConvNorm):
                step.training = True  # takes the plain branch; the norm itself stays in evaluation
        pooled: torch.Tensor = lite.trunk(x).pooled
        lite.eval()
        return pooled

    line("EfficientNet-Lite0 224 px, fp32, naive", 64, lambda: unfolded(pixels))
    line("EfficientNet-Lite0 224 px, bf16 channels-last, naive", 64, lambda: unfolded(last), bf16=True)
    line("EfficientNet-Lite0 224 px, fp32", 64, lambda: lite(pixels))
    line("EfficientNet-Lite0 224 px, bf16 channels-last", 64, lambda: lite(last), bf16=True)
    line("EfficientNet-Lite0 224 px, bf16, one picture", 1, lambda: lite(last[:1]), bf16=True)

    vit = build_vision(ViTConfig()).eval()
    line("ViT-B/32 224 px, fp32", 16, lambda: vit(pixels[:16]))
    line("ViT-B/32 224 px, bf16", 16, lambda: vit(pixels[:16]), bf16=True)

    tokens, mask = torch.randint(5, 999, (64, 16)), torch.ones(64, 16, dtype=torch.bool)
    padded, padded_mask = torch.nn.functional.pad(tokens, (0, 61)), torch.nn.functional.pad(mask, (0, 61))
    minilm = build_text(HFTextConfig(config=MINILM)).eval()
    line("MiniLM (6 x 384), 16 tokens padded to 77, fp32, naive", 64, lambda: minilm(padded, padded_mask))
    line("MiniLM (6 x 384), 16 tokens, fp32", 64, lambda: minilm(tokens, mask))
    line("MiniLM (6 x 384), 16 tokens, bf16", 64, lambda: minilm(tokens, mask), bf16=True)

    text = build_text(TextTransformerConfig()).eval()
    line("CLIP text transformer, 16 tokens padded to 77, bf16, naive", 64, lambda: text(padded, padded_mask), bf16=True)
    line("CLIP text transformer, 16 tokens, bf16", 64, lambda: text(tokens, mask), bf16=True)


if __name__ == "__main__":
    main()
