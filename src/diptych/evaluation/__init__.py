"""Judging: metrics, one evaluator per task, intervals and the report. A number always comes with its doubt."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Literal

from diptych.types import Estimate

Task = Literal["retrieve", "classify", "caption", "answer", "match", "fill", "probe", "detect", "segment", "draw"]
"""What a model can be judged by."""


def to_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | int | None]]:
    """The estimates as plain data: `{"name": {"value":, "low":, "high":, "n":, "chance":}}`; null is "not known"."""
    return {
        name: {part: None if number is not None and isnan(number) else number for part, number in fields.items()}
        for name, fields in ((name, estimate._asdict()) for name, estimate in estimates.items())
    }
