"""What a busy neighbour costs, and what a short spin saves: `python benchmarks/busy.py`.

Training steps of `clip` (preset tiny) in a process of its own, alone and beside a program that keeps a core busy, with
OpenMP's usual spin and with `GOMP_SPINCOUNT=1000`. OpenMP reads the variable once, hence the processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

SECONDS, BATCH = 8.0, 128


def measure() -> float:
    """Samples a second of training steps in bfloat16, where the machine has it."""
    import torch

    from diptych.machine import autocast
    from diptych.models.clip import CLIP, PRESETS
    from diptych.types import Batch

    model, random = CLIP(PRESETS["tiny"]), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8, generator=random)
    tokens = torch.randint(3, 4000, (BATCH, 32), generator=random)
    tokens[:, -1] = 1
    batch = Batch([str(i) for i in range(BATCH)], pixels, tokens=tokens, token_mask=torch.ones_like(tokens).bool())
    started, steps = 0.0, -1
    while steps < 1 or time.monotonic() - started < SECONDS:
        with autocast("cpu"):
            loss = model(batch).total
        loss.backward()
        steps += 1
        started = started or time.monotonic()  # the first step only warms up
    return BATCH * steps / (time.monotonic() - started)


def run(spin: str | None) -> float:
    """`measure` in a fresh process."""
    own = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | ({"GOMP_SPINCOUNT": spin} if spin else {})
    done = subprocess.run([sys.executable, __file__, "measure"], env=own, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    alone = {spin: run(spin) for spin in (None, "1000")}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            beside = {spin: run(spin) for spin in (None, "1000")}
        finally:
            neighbour.kill()
    for spin, name in ((None, "usual spin"), ("1000", "GOMP_SPINCOUNT=1000")):
        share = beside[spin] / alone[None]
        print(f"{name:22s} alone {alone[spin]:6.1f} /s   beside a busy program {beside[spin]:6.1f} /s   {share:.2f} x")


if __name__ == "__main__":
    print(measure()) if sys.argv[1:] == ["measure"] else main()
