"""What one row of the health page says, and the three colours.

Every verdict compares an interval with a line that is written in the row: green if the whole interval lies on the good
side, red if all of it lies on the bad side, grey if the line runs through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.types import Estimate, Rejected

Verdict = Literal["good", "bad", "unclear", "measured", "not judged"]
"""`measured` is a fact that is neither good nor bad, such as a price or a property of the data."""

TAIL = 0.025  # of a 95 % interval, on the side that makes a row red


@dataclass(frozen=True)
class Curve:
    """A small picture: estimates over a dial. `line` (x, y points) is where guessing, or perfection, would be."""

    title: str
    x: Sequence[float]
    y: Sequence[Estimate]
    ticks: Sequence[str] = ()
    line: Sequence[tuple[float, float]] = ()
    line_name: str = "guessing"


@dataclass(frozen=True)
class Failure:
    """A picture (encoded) that the model got wrong: what it was asked, what it took, what is true."""

    picture: bytes | None
    asked: str
    said: str
    truth: str


@dataclass(frozen=True)
class Finding:
    """One row.

    Attributes:
        test: which test it belongs to: "word order".
        name: what this row looks at: "attributes swapped".
        sentence: what it means for the person, in plain words.
        estimate: value with interval and chance; None where nothing was judged.
        control: what the same number is without looking, or without the fault.
        control_name: what the control is, in a few words.
        unit: how `estimate` is written: "share", "points" of a share, or a number with this unit after it.
        looks: how many intervals could have made the row red.
        details: further numbers, for the JSON.
        left_out: why some pictures or questions could not be judged, and how many.
    """

    test: str
    name: str
    verdict: Verdict
    sentence: str
    estimate: Estimate | None = None
    control: Estimate | None = None
    control_name: str = ""
    unit: str = "share"
    looks: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    failures: Sequence[Failure] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def not_judged(test: str, name: str, needs: str) -> Finding:
    """A row that says what it would need."""
    return Finding(test, name, "not judged", f"Not judged: needs {needs}.")


def reasons(rejected: Sequence[Rejected]) -> dict[str, int]:
    """How many were left out for which reason."""
    return dict(Counter(one.reason for one in rejected))


def above(estimate: Estimate, line: float) -> Verdict:
    """Good if the whole interval is above the line, bad if all of it is below."""
    return "good" if estimate.low > line else "bad" if estimate.high < line else "unclear"


def below(estimate: Estimate, line: float) -> Verdict:
    """Good if the whole interval is below the line, bad if all of it is above."""
    return "good" if estimate.high < line else "bad" if estimate.low > line else "unclear"


def halfway(chance: float) -> float:
    """The line of a share of right answers: half of what guessing leaves to be won."""
    return (1 + chance) / 2


def all_of(*verdicts: Verdict) -> Verdict:
    """Bad if one is bad, good if all are good."""
    return "bad" if "bad" in verdicts else "good" if set(verdicts) == {"good"} else "unclear"


def percent(value: float) -> str:
    """A share in words: 62 %."""
    return f"{100 * value:.0f} %"


def points(value: float) -> str:
    """The size of a difference of shares in words: 12 points."""
    count = round(100 * abs(value))
    return f"{count} point{'' if count == 1 else 's'}"
