"""A run in a process of its own, so that it can be killed: `resume_worker.py OUT KILL_AT_BATCH KILL_IN_CHECKPOINT`."""

import os
import signal
import sys
from pathlib import Path

import torch
from toy_training import Toy, ToyLoader

from diptych.training import checkpoint
from diptych.training.config import TrainConfig
from diptych.training.loop import train

CONFIG = TrainConfig(
    epochs=4, lr=0.02, log_every=5, checkpoint_every=4, micro_batch=3, ema=0.9, precision="fp32", device="cpu", seed=7
)


def main(out: str, kill_at: int, kill_in: int) -> None:
    torch.set_num_threads(1)
    replace = os.replace

    def killing(source: Path, target: Path) -> None:
        if Path(target).name == f"step-{kill_in:08d}":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    checkpoint.os.replace = killing
    loader = ToyLoader(kill_at=kill_at if kill_at >= 0 else None)
    train(Toy(dropout=0.2), loader, CONFIG, Path(out), show="silent")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
