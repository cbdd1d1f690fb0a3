"""The next-token loss in chunks against the dense one: time and memory of forward and backward, in one run.

    python benchmarks/lm_head.py                       # 8,192 tokens, 49,152 words, width 576
    python benchmarks/lm_head.py --dtype bf16 --chunk 512

Each measurement is a process of its own, taken in turn. Memory is its peak resident size (ru_maxrss) less what it was
before the loss, when weights and states were there already; so gradients count on both sides. The dense loss is
`F.cross_entropy(hidden @ weight.T, targets)`, of bfloat16 logits with `--dtype bf16`. Losses and gradients are compared
too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import torch

from diptych.objectives.language import CHUNK, cross_entropy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--words", type=int, default=49152)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=["dense", "chunked"], help="measure this one in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(options)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for name in ("dense", "chunked"):
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            old = best.setdefault(name, found)
            best[name] = {key: min(value, old[key]) for key, value in found.items()}
    for name, found in best.items():
        print(f"{name:8} {found['seconds']:7.2f} s  {found['megabytes']:7.0f} MB  loss {found['loss']:.5f}")
    dense, chunked = best["dense"], best["chunked"]
    print(f"memory 1/{dense['megabytes'] / chunked['megabytes']:.1f}, time {chunked['seconds'] / dense['seconds']:.2f}")
    for name in ("loss", "gradient"):
        if abs(dense[name] - chunked[name]) > 1e-3 * abs(dense[name]) + 1e-5:
            raise SystemExit(f"{name}: {dense[name]} and {chunked[name]} differ")


def measured(options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    hidden = torch.randn(options.tokens, options.width, requires_grad=True)
    weight = (torch.randn(options.words, options.width) * 0.02).requires_grad_()
    targets = torch.randint(0, options.words, (options.tokens,))
    run(options, hidden[:8].detach().requires_grad_(), weight[:64].detach().requires_grad_(), targets[:8] % 64)
    before, start = peak(), time.perf_counter()
    loss = run(options, hidden, weight, targets)
    seconds = time.perf_counter() - start
    assert hidden.grad is not None and weight.grad is not None
    return {
        "seconds": seconds,
        "megabytes": peak() - before,
        "loss": loss,
        "gradient": (hidden.grad.norm() + weight.grad.norm()).item(),
    }


def run(options: argparse.Namespace, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bf16"):
        if options.only == "dense":
            loss = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets)
        else:
            loss = cross_entropy(hidden, weight, targets, chunk=options.chunk)
    loss.backward()
    return loss.item()


def peak() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
