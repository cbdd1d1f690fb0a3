"""What a preview on some rows says of all rows, and where it can say nothing."""

from __future__ import annotations

from diptych.data.curate.bias import wilson
from diptych.data.curate.steps import CurationReport
from diptych.types import Estimate


def is_sample(report: CurationReport) -> bool:
    """Whether a report is about a part of the rows."""
    return report.rows_before < report.rows_in_all


def in_all(report: CurationReport) -> list[Estimate | None]:
    """How many rows would be left after each step if the plan ran on all rows, with Wilson's 95 % intervals.

    None if the report is about all rows, and from the first step on that compares rows with each other: a repeat is
    seen only if both of its rows are in the sample, so that a sample tells nothing of how many there are.
    """
    found: list[Estimate | None] = []
    tells = is_sample(report)
    for step in report.steps:
        tells = tells and step.per_row
        found.append(_scaled(step.rows_after, report.rows_before, report.rows_in_all) if tells else None)
    return found


def _scaled(kept: int, seen: int, total: int) -> Estimate:
    share, low, high = wilson(kept, seen)
    return Estimate(total * share, total * low, total * high, seen)
