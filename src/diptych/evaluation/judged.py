"""What comes out of judging one model on one dataset, whatever the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics.intervals import Difference, paired_difference
from diptych.types import Estimate, InputError, Rejected


@dataclass(frozen=True)
class Values:
    """One number for each of Q judged units, so that two models can be compared unit by unit.

    Attributes:
        rows: Q; the dataset's row that a unit belongs to. Units of one row are drawn together in a bootstrap.
        units: Q; which unit of its row (the third question, the second caption).
        numbers: Q; higher is better.
    """

    rows: NDArray[np.int64]
    units: NDArray[np.int64]
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, rows: ArrayLike, units: ArrayLike, numbers: ArrayLike) -> Values:
        """From anything that can become arrays."""
        return cls(np.asarray(rows, np.int64), np.asarray(units, np.int64), np.asarray(numbers, np.float64))


class Case(NamedTuple):
    """One judged unit as a person looks at it: the picture is that of the dataset's `row`."""

    row: int
    score: float
    asked: str
    said: str
    truth: str
    confidence: float | None = None


class Predictions(NamedTuple):
    """What the model said, in the format that an official server takes: a JSON list under its usual file name."""

    file: str
    entries: list[dict[str, Any]]


@dataclass(frozen=True)
class Judged:
    """What came out.

    Attributes:
        task: "caption", "answer", "match", "detect", "segment" or "draw".
        estimates: by name, such as "answer/accuracy" or "match/accuracy[words shuffled]".
        values: by the names of those estimates that are means over units.
        cases: every judged unit.
        rejected: pictures that could not be read, or that the model gave nothing for; they are left out.
        skipped: rows that have nothing to judge by: reason -> how many.
        predictions: the raw output, where an official format exists.
    """

    task: str
    estimates: dict[str, Estimate]
    values: dict[str, Values]
    cases: list[Case]
    rejected: list[Rejected]
    skipped: dict[str, int] = field(default_factory=dict)
    predictions: Predictions | None = None
    notes: list[str] = field(default_factory=list)

    def left_out(self) -> dict[str, int]:
        """How many samples were left out, by reason."""
        return {**self.skipped, **Counter(row.reason for row in self.rejected)}

    def worst(self, count: int = 10) -> list[Case]:
        """The cases with the lowest scores, the surest first among equals."""
        return sorted(self.cases, key=lambda case: (case.score, -(case.confidence or 0.0)))[:count]


def differences(models: Mapping[str, Mapping[str, Values]], seed: int = 0) -> dict[str, dict[str, Difference]]:
    """Every other model minus the first, by model and by name of the estimate; see `compare`."""
    rng = np.random.default_rng(seed)
    first = next(iter(models.values()))
    return {name: compare(values, first, rng) for name, values in list(models.items())[1:]}


def compare(
    first: Mapping[str, Values], second: Mapping[str, Values], rng: np.random.Generator
) -> dict[str, Difference]:
    """`first - second` of two models on the units that both were judged on, by the name of each shared estimate.

    Raises:
        InputError: an estimate of both has no unit in common: they were judged on different data.
    """
    found = {}
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        both, here, there = np.intersect1d(_keys(one), _keys(two), assume_unique=True, return_indices=True)
        if not len(both):
            raise InputError(f"{name}: the two models share no sample, so they cannot be compared")
        found[name] = paired_difference(one.numbers[here], two.numbers[there], rng, groups=one.rows[here])
    return {name: found[name] for name in first if name in found}


def number(id: str) -> int | str:
    """An id as official formats have it: digits become a number."""
    return int(id) if id.isascii() and id.isdigit() else id


def _keys(values: Values) -> NDArray[np.int64]:
    return (values.rows << 24) + values.units
