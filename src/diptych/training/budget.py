"""How long to train: one converter for every unit, and the learning rate as a function of how much of it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass

from diptych.training.config import TrainConfig
from diptych.types import InputError


@dataclass(frozen=True)
class Budget:
    """The end of a run: a number of optimizer steps, seconds of wall clock, or whichever comes first."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: float, elapsed: float) -> float:
        """The share of the run, in [0, 1], that lies behind after `step` steps and `elapsed` seconds."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = elapsed / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def done(self, step: int, elapsed: float) -> bool:
        """Whether the run has reached its end."""
        return self.progress(step, elapsed) >= 1.0

    def __str__(self) -> str:
        parts = [f"{self.steps} steps"] if self.steps else []
        parts += [f"{self.seconds / 60:g} minutes"] if self.seconds else []
        return " or ".join(parts)


def budget(config: TrainConfig, batch_size: int, batches_per_epoch: int) -> Budget:
    """The run's end, from `config`'s epochs, steps, samples and minutes; the smallest of those given counts.

    Args:
        config: names the durations.
        batch_size: samples per step, over all processes.
        batches_per_epoch: steps in one pass over the data.

    Raises `InputError` where no duration is given, or the data does not fill a single batch.
    """
    if batches_per_epoch < 1:
        raise InputError(f"training data: expected at least one full batch of {batch_size} samples, got fewer samples")
    steps = [
        None if config.epochs is None else math.ceil(config.epochs * batches_per_epoch),
        config.steps,
        None if config.samples is None else math.ceil(config.samples / batch_size),
    ]
    given = [count for count in steps if count is not None]
    if not given and config.minutes is None:
        raise InputError("training config: expected one of epochs, steps, samples or minutes, got none")
    return Budget(min(given, default=None), None if config.minutes is None else config.minutes * 60)


def rate(progress: float, warmup: float) -> float:
    """The factor on every peak learning rate: linear from 0 over the share `warmup`, then half a cosine down to 0.

    The loop asks with the progress at the middle of a step, so that neither the first nor the last step is lost to 0.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
