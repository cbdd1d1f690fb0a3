"""All tests on one model: what it can be asked is asked, the rest says what it would need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diptych.capabilities import WritesCaptions
from diptych.data.store import Dataset
from diptych.evaluation.health.ambiguity import ambiguity
from diptych.evaluation.health.calibration import calibration
from diptych.evaluation.health.choosing import can_match
from diptych.evaluation.health.cost import cost
from diptych.evaluation.health.finding import TAIL, Finding
from diptych.evaluation.health.nonsense import nonsense
from diptych.evaluation.health.robustness import robustness
from diptych.evaluation.health.spurious import lists, spurious
from diptych.evaluation.health.unseen import unseen
from diptych.evaluation.health.word_order import word_order
from diptych.evaluation.health.worlds import WANTED, dials_of_world
from diptych.tasks.running import usage_of
from diptych.types import InputError

SAMPLES = 200
DEFAULT = "scenes:?split=test&n={n}"
TESTS = ("word-order", "nonsense", "unseen", "spurious", "ambiguity", "robustness", "calibration", "cost")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Health:
    """What came out: the rows in the order of the page."""

    model: str
    data: str
    samples: int
    seed: int
    findings: Sequence[Finding]
    usage: str = ""  # of a server, see `diptych.models.endpoint.Usage`

    def counts(self) -> Counter[str]:
        """How many rows have each verdict."""
        return Counter(finding.verdict for finding in self.findings)

    def by_luck(self) -> float:
        """How many rows one would expect to be red by luck alone if every true value lay exactly on its line."""
        return TAIL * sum(finding.looks for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures as plain data."""
        return {
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "seed": self.seed,
            "red by luck": self.by_luck(),
            "usage": self.usage,
            "rows": [
                {
                    "test": f.test,
                    "name": f.name,
                    "verdict": f.verdict,
                    "sentence": f.sentence,
                    "unit": f.unit,
                    "estimate": f.estimate and f.estimate._asdict(),
                    "control": f.control and {"name": f.control_name, **f.control._asdict()},
                    "details": dict(f.details),
                    "left out": dict(f.left_out),
                }
                for f in self.findings
            ],
        }


def check_health(
    model: Any,
    data: Dataset,
    *,
    name: str = "model",
    n: int = SAMPLES,
    held_out: str = "",
    tests: Sequence[str] = TESTS,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "auto",
    progress: Progress | None = None,
) -> Health:
    """Examine a model with everything that it and the data allow.

    Args:
        data: `scenes:...`, whose dials are turned where a test needs it, or any dataset with `negatives`, `objects`,
            `questions` or captions.
        name: what the model is called on the page.
        n: samples that are used: the first ones of a generated world, of other data some drawn by `seed` (ARO has one
            kind after the other).
        held_out: combinations that the model was trained without, as in the dial of `scenes`: "yellow cone,blue cube".
        tests: which of `TESTS`.

    Raises:
        InputError: the model can neither compare, answer nor write captions; an unknown test; data without pictures.
    """
    unknown = [test for test in tests if test not in TESTS]
    if unknown:
        raise InputError(f"tests: expected some of {', '.join(TESTS)}, got '{unknown[0]}'")
    if n < 1:
        raise InputError(f"n: expected 1 or more samples, got {n}")
    if not can_match(model) and not isinstance(model, WritesCaptions):
        raise InputError(f"model {name}: expected one that compares pictures with texts, answers or writes captions")
    dials, rows = dials_of_world(data), list(range(min(n, len(data))))
    if dials is None:
        rows = sorted(np.random.default_rng([seed, len(TESTS)]).permutation(len(data))[:n].tolist())
    samples = [sample for sample in data.take(rows, WANTED) if sample.images]
    if not samples:
        raise InputError(f"{data.name}: expected samples with pictures")
    count = len(samples)
    third = max(count // 3, 1)
    steps: dict[str, list[Callable[..., list[Finding]]]] = {
        "word-order": [partial(word_order, model, samples)],
        "nonsense": [partial(nonsense, model, samples)],
        "unseen": [partial(unseen, model, dials, held_out, count)],
        "spurious": [partial(spurious, model, dials, third), partial(lists, model, samples)],
        "ambiguity": [partial(ambiguity, model, samples)],
        "robustness": [partial(robustness, model, samples[: max(count // 2, 1)], dials)],
        "calibration": [partial(calibration, model, samples)],
        "cost": [partial(cost, model, samples)],
    }
    findings: list[Finding] = []
    for place, test in enumerate(tests):
        settings: dict[str, Any] = {"batch_size": batch_size, "device": device}
        if progress is not None:
            progress("tests", place, len(tests))
            settings["progress"] = partial(progress, test)
        for i, step in enumerate(steps[test]):
            rng = np.random.default_rng([seed, TESTS.index(test), i])  # no test changes another's lot
            findings += step(rng=rng, **settings)
    if progress is not None:
        progress("tests", len(tests), len(tests))
    return Health(name, data.name if dials is None else data.address, count, seed, findings, usage_of(model))
