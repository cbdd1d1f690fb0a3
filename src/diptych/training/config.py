"""What a training run is told, beside the model and the data. Imports no torch, so that a command line starts fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.config import strict
from diptych.types import InputError


@strict
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. At least one of `epochs`, `steps`, `samples` and `minutes` is given; the first reached is the end.

    Attributes:
        epochs: passes over the data; fractions are allowed.
        steps: optimizer steps.
        samples: samples seen, over all processes.
        minutes: minutes of wall clock, interruptions not counted. Such a run depends on the machine's speed, and so
            cannot be repeated bit by bit.
        lr: peak learning rate of the parameters that no pattern in `groups` names.
        weight_decay: AdamW's decoupled decay, for parameters of two and more dimensions only (no bias, norm or scale).
        betas: AdamW's running averages of gradient and squared gradient.
        warmup: share of the run, in [0, 1), in which the rate rises linearly from 0; then it falls by half a cosine.
        groups: ordered (regular expression, peak learning rate or None) pairs; the expression is searched for in
            parameter names. The first match wins; None freezes. A pattern that selects nothing is an error.
        clip: largest L2 norm of the whole gradient; a longer one is shortened to it. None leaves it as it is.
        micro_batch: most samples that a process puts through the model at once; a larger batch is accumulated, exactly
            for `TwoStage` models. None: the whole batch.
        ema: decay of an exponential moving average of the trained weights, in (0, 1), e.g. 0.999. None: no average.
        precision: "bf16" autocast, "fp32", or "auto": bf16 where the machine computes it natively.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        seed: of everything random in the steps (dropout). The data's order has the loader's own seed.
        self_critical: train a model that writes captions on the CIDEr-D of what it writes (`training.self_critical`) in
            the place of its family's loss; it must have learnt captions before.
        teacher: a model to learn from beside the labels: the folder of a trained one, or "self", the average of the own
            weights (`ema`); see `training.teaching`.
        teach: what it teaches: "logits" of answers, "features" of pictures and texts, or their "similarities".
        teach_weight: of that beside the family's own loss.
        temperature: of "logits"; 0: only the teacher's likeliest answer is taught.
        sure: least confidence in its likeliest answer with which the teacher teaches a question.
        lora: rank of matrices that are trained beside the weights of linear layers (`training.lora`), and nothing else.
            They become one with the weights at the end. None: the weights themselves train.
        lora_on: regular expression of the layers' names.
        lora_also: one of the names of weights that train beside them, such as a head that is new to its task.
        log_every: steps between two lines of `metrics.jsonl`; each averages over the steps since the last.
        evaluate_every: steps between two calls of the evaluation hook; 0 calls it at the end only.
        checkpoint_every: steps between two checkpoints; 0 writes one at the end and on interruption only.
        keep: newest checkpoints that stay on disk.
    """

    epochs: float | None = None
    steps: int | None = None
    samples: int | None = None
    minutes: float | None = None
    lr: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.1
    groups: tuple[tuple[str, float | None], ...] = ()
    clip: float | None = 1.0
    micro_batch: int | None = None
    ema: float | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    seed: int = 0
    self_critical: bool = False
    teacher: str | None = None
    teach: Literal["logits", "features", "similarities"] = "logits"
    teach_weight: float = 1.0
    temperature: float = 1.0
    sure: float = 0.0
    lora: int | None = None
    lora_on: str = "(q|k|v|out)_proj$"
    lora_also: str = ""
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every: int = 200
    keep: int = 2

    def __post_init__(self) -> None:
        """Raises `InputError` naming the first field that is out of range."""
        for name in ("epochs", "steps", "samples", "minutes", "clip", "micro_batch"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, "a number above 0", value)
        for name, least in (("log_every", 1), ("keep", 1), ("evaluate_every", 0), ("checkpoint_every", 0)):
            _require(getattr(self, name) >= least, name, f"{least} or more", getattr(self, name))
        for name in ("lr", "weight_decay", "teach_weight", "temperature"):
            _require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for pattern, lr in self.groups:
            _require(lr is None or lr >= 0, "groups", f"a learning rate of 0 or more, or null, for {pattern!r}", lr)
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", "two numbers in [0, 1)", self.betas)
        _require(0 <= self.warmup < 1, "warmup", "a share of the run in [0, 1)", self.warmup)
        _require(0 <= self.sure <= 1, "sure", "a probability in [0, 1]", self.sure)
        _require(self.lora is None or self.lora > 0, "lora", "a rank above 0", self.lora)
        _require(self.teacher != "self" or self.ema is not None, "ema", "a decay, as the teacher is an average", None)
        _require(not (self.teacher and self.self_critical), "teacher", "none with self_critical", self.teacher)
        _require(self.ema is None or 0 < self.ema < 1, "ema", "a decay in (0, 1)", self.ema)


def _require(fine: bool, field: str, expected: str, value: object) -> None:
    if not fine:
        raise InputError(f"training config: {field}: expected {expected}, got {value!r}")
