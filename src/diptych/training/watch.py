"""Says when nothing is learnt. It looks at the averages that are logged, so that one odd batch raises no alarm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from diptych.training.step import CHANCE

MARGIN = 0.02  # a loss within this share of its chance level has learnt nothing
LEFT = 0.05  # a loss this share below its chance level has begun to learn
DUPLICATES = 0.02  # share of captions in a batch that repeat another one
WINDOWS = 5  # log lines in a row
STAYS = 0.05  # and share of the run, for which a sign must stay

AT_CHANCE = "at chance: "  # prefix of the signs about a loss


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or not a number. `ids` are the samples behind it, where they could be found."""

    def __init__(self, step: int, ids: Sequence[str], samples: int, saved: str) -> None:
        self.step = step
        self.ids = list(ids)
        if not ids:
            cause = "no single sample is to blame: look at the objective, or lower the learning rate"
        elif len(ids) == samples and samples > 1:
            cause = f"every one of the batch's {samples} samples gives it, so the weights have diverged: lower the rate"
        else:
            cause = f"the samples behind it: {', '.join(self.ids[:20])}{' ...' if len(ids) > 20 else ''}"
        super().__init__(f"step {step}: the loss is not finite; {cause} ({saved})")


class Watch:
    """Collects the signs that a run learns nothing, each said once, in a sentence.

    A sign counts after warm-up, and once it has stayed for `WINDOWS` log lines and the share `STAYS` of the run; in a
    run too short for that, at its end, if every line after warm-up showed it.
    """

    def __init__(self, warmup: float) -> None:
        self.warmup = warmup
        self.since: dict[str, list[float]] = {}  # sign -> [lines in a row, progress at the first of them]
        self.lines = 0
        self.said: list[str] = []  # signs
        self.warnings: list[str] = []  # sentences

    def look(self, step: int, progress: float, values: Mapping[str, float]) -> list[str]:
        """New warnings after one log line.

        Args:
            step: its step.
            progress: the share of the run that is done.
            values: what was logged, averaged since the last line.
        """
        if progress <= self.warmup:
            return []
        self.lines += 1
        new = []
        for sign, (shown, sentence) in signs(values).items():
            if not shown:
                self.since.pop(sign, None)
                continue
            streak = self.since.setdefault(sign, [0, progress])
            streak[0] += 1
            if streak[0] >= WINDOWS and progress - streak[1] >= STAYS:
                new += self._say(sign, step, sentence)
        for part in [sign.removeprefix(AT_CHANCE) for sign in self.said if sign.startswith(AT_CHANCE)]:
            if values.get(part, math.inf) < (1 - LEFT) * values.get(CHANCE + part, 0.0):
                new += self._say(f"left {part}", step, f"{part} has left its chance level after all.")
        return new

    def end(self, step: int, values: Mapping[str, float]) -> list[str]:
        """New warnings at the end of the run, whose last logged values are given."""
        new = []
        for sign, (_, sentence) in signs(values).items():
            if self.lines and self.since.get(sign, [0])[0] == self.lines:
                new += self._say(sign, step, sentence)
        return new

    def state(self) -> dict[str, Any]:
        """Everything that must survive an interruption, as plain values."""
        return {"since": self.since, "lines": self.lines, "said": self.said, "warnings": self.warnings}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.since, self.lines = dict(state["since"]), state["lines"]
        self.said, self.warnings = list(state["said"]), list(state["warnings"])

    def _say(self, sign: str, step: int, sentence: str) -> list[str]:
        if sign in self.said:
            return []
        self.said.append(sign)
        self.warnings.append(f"Step {step}: {sentence}")
        return self.warnings[-1:]


def signs(values: Mapping[str, float]) -> dict[str, tuple[bool, str]]:
    """Every sign that can be read from a log line: whether it shows, and the sentence that says it."""
    duplicates, skipped = values.get("duplicate_captions", 0.0), values.get("skipped", 0.0)
    found = {
        "clamp": (
            values.get("logit_scale_at_clamp", 0.0) >= 0.5,
            "the temperature sits at its clamp: the model asks for sharper scores than it may give. Near-identical "
            "pairs in the data or a too high learning rate are the usual reasons.",
        ),
        "duplicates": (
            duplicates >= DUPLICATES,
            f"{duplicates:.0%} of the captions in a batch repeat another one in it, and each counts as a wrong answer "
            "to its twin's picture. Curate the captions, or use smaller batches.",
        ),
        "no gradient": (
            values.get("grad_norm", 1.0) == 0.0,
            "the gradient is zero: no trained parameter takes part in the loss.",
        ),
        "skipped": (
            skipped >= 0.5,
            f"{skipped:.0%} of the steps are skipped because their gradient is not finite: lower the learning rate, or "
            "train in fp32.",
        ),
    }
    for name, chance in values.items():
        part = name.removeprefix(CHANCE)
        if part != name and part in values:
            found[AT_CHANCE + part] = (
                values[part] >= (1 - MARGIN) * chance,
                f"nothing is learnt: {part} is {values[part]:.3f}, and guessing gives {chance:.3f}. Check that images "
                "and texts belong together, then try another learning rate or a longer warm-up.",
            )
    return found


def duplicate_share(tokens: Tensor) -> float:
    """The share of rows of `tokens` (B T, on the CPU) that repeat an earlier row."""
    rows = tokens.contiguous().numpy()
    return 1 - len({row.tobytes() for row in rows}) / len(rows)
