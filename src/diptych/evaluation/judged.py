"""What comes out of judging one model on one dataset, whatever the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics.detection_intervals import Matches, average_precision_difference
from diptych.evaluation.metrics.intervals import Difference, paired_difference, paired_difference_of_sums
from diptych.types import Estimate, InputError, Object, Rejected


@dataclass(frozen=True)
class Values:
    """One number for each of Q judged units, so that two models can be compared unit by unit.

    Attributes:
        rows: Q; the dataset's row that a unit belongs to. Units of one row are drawn together in a bootstrap.
        units: Q; which unit of its row (the third question, the second caption).
        numbers: Q; their mean is the estimate.
    """

    rows: NDArray[np.int64]
    units: NDArray[np.int64]
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, rows: ArrayLike, units: ArrayLike, numbers: ArrayLike) -> Values:
        """From anything that can become arrays."""
        return cls(np.asarray(rows, np.int64), np.asarray(units, np.int64), np.asarray(numbers, np.float64))


@dataclass(frozen=True)
class Sums:
    """What each of N rows adds to a number that is no mean (BLEU, mean IoU), so that two models can be compared.

    Attributes:
        rows: N; the dataset's rows.
        counts: N x F.
        statistic: from R x F sums R numbers; of the sum over all rows, the estimate.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.float64]
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Case(NamedTuple):
    """One judged unit as a person looks at it.

    Attributes:
        row: the dataset's row, whose picture is shown.
        score: higher is better.
        asked, said, truth: in words; "" where there is nothing to say.
        confidence: what the model puts on being right.
        things: boxes to be drawn on the picture.
        drawn: the picture that the model made, encoded; shown in place of the dataset's.
    """

    row: int
    score: float
    asked: str
    said: str
    truth: str
    confidence: float | None = None
    things: Sequence[Object] = ()
    drawn: bytes | None = None


class Predictions(NamedTuple):
    """What the model said, in the format that an official server takes: a JSON list under its usual file name."""

    file: str
    entries: list[dict[str, Any]]


@dataclass(frozen=True)
class Judged:
    """What came out.

    Attributes:
        task: "caption", "answer", "match", "fill", "probe", "detect", "segment" or "draw".
        estimates: by name, such as "answer/accuracy" or "match/accuracy[words shuffled]".
        values: by the names of those estimates that are means over units.
        cases: every judged unit.
        rejected: pictures that could not be read, or that the model gave nothing for; they are left out.
        skipped: rows that have nothing to judge by: reason -> how many.
        predictions: the raw output, where an official format exists.
        notes: what a reader must know, in sentences.
        matches: for "detect", what became of every detection in every row, by which the AP of two models is compared.
        sums: by the names of those estimates that are computed from sums over rows.
    """

    task: str
    estimates: dict[str, Estimate]
    values: dict[str, Values]
    cases: list[Case]
    rejected: list[Rejected]
    skipped: dict[str, int] = field(default_factory=dict)
    predictions: Predictions | None = None
    notes: list[str] = field(default_factory=list)
    matches: Matches | None = None
    sums: dict[str, Sums] = field(default_factory=dict)

    def left_out(self) -> dict[str, int]:
        """How many samples were left out, by reason."""
        return {**self.skipped, **Counter(row.reason for row in self.rejected)}

    def worst(self, count: int = 10) -> list[Case]:
        """The cases with the lowest scores, the surest first among equals."""
        return sorted(self.cases, key=lambda case: (case.score, -(case.confidence or 0.0)))[:count]


class HasValues(Protocol):
    """A result of any task."""

    @property
    def values(self) -> dict[str, Values]: ...


def differences(results: Mapping[str, HasValues], seed: int = 0) -> dict[str, dict[str, Difference]]:
    """Every other model minus the first, by model and by name of the estimate, on what both were judged on."""
    rng = np.random.default_rng(seed)
    (_, first), *others = results.items()
    found = {name: compare(result.values, first.values, rng) for name, result in others}
    for name, result in others:
        sums = compare_sums(getattr(result, "sums", {}), getattr(first, "sums", {}), rng)
        found[name] = {**sums, **found[name]}
        one, two = getattr(result, "matches", None), getattr(first, "matches", None)
        if one is not None and two is not None:
            both = np.intersect1d(one.images, two.images)
            one, two = one.only(both), two.only(both)
            if any(some.truths.any() for some in one.classes.values()):
                found[name] = {"detect/ap": average_precision_difference(one, two, rng), **found[name]}
    return found


def compare(
    first: Mapping[str, Values], second: Mapping[str, Values], rng: np.random.Generator
) -> dict[str, Difference]:
    """`first - second` of two models on the units that both were judged on, by the name of each shared estimate.

    An estimate of which they share no unit is left out.
    """
    found = {}
    for name, one in first.items():
        if name in second:
            two = second[name]
            both, here, there = np.intersect1d(_keys(one), _keys(two), assume_unique=True, return_indices=True)
            if len(both):
                found[name] = paired_difference(one.numbers[here], two.numbers[there], rng, groups=one.rows[here])
    return found


def compare_sums(
    first: Mapping[str, Sums], second: Mapping[str, Sums], rng: np.random.Generator
) -> dict[str, Difference]:
    """As `compare`, of estimates that are computed from sums over rows."""
    found = {}
    for name, one in first.items():
        if name in second:
            two = second[name]
            both, here, there = np.intersect1d(one.rows, two.rows, assume_unique=True, return_indices=True)
            if len(both):
                found[name] = paired_difference_of_sums(one.statistic, one.counts[here], two.counts[there], rng)
    return found


def none_left(data: str, what: str, count: int, rejected: Sequence[Rejected]) -> InputError:
    """The error where everything that could be judged was rejected: how much, and why."""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in Counter(row.reason for row in rejected).items())
    first = next((f"; the first: {row.detail}" for row in rejected if row.detail), "")
    return InputError(f"{data}: none of {count:,} {what} could be judged: {reasons}{first}")


_LARGEST = {"cider_d": 10.0, "clip_score": 2.5, "ref_clip_score": 10 / 7}


def largest(name: str) -> float:
    """The largest value that a measure like "caption/cider_d" can have for one sample: 1 if it is a share."""
    return _LARGEST.get(name.rsplit("/", 1)[-1], 1.0)


def without_interval(value: float, n: int) -> Estimate:
    """A number whose interval is not known: its ends are NaN, in JSON null."""
    return Estimate(value, float("nan"), float("nan"), n)


def number(id: str) -> int | str:
    """An id as official formats have it: a number where it is written as one, so that "7" is 7 and "007" is not."""
    return int(id) if id.isascii() and id.isdigit() and str(int(id)) == id else id


def _keys(values: Values) -> NDArray[np.int64]:
    return (values.rows << 24) + values.units
