"""Curation: a plan of steps that filter, mend, de-duplicate and balance a dataset. The source is never modified.

`run_plan` says what a plan would do; `curate` writes the new dataset with its datasheet.
"""

from __future__ import annotations

from diptych.data.curate.plan import DEFAULT, Plan, read_plan
from diptych.data.curate.running import Outcome, run_plan
from diptych.data.curate.steps import Change, CurationReport, PairEncoder, Step, StepReport
from diptych.data.curate.writing import curate, write

__all__ = [
    "DEFAULT",
    "Change",
    "CurationReport",
    "Outcome",
    "PairEncoder",
    "Plan",
    "Step",
    "StepReport",
    "curate",
    "read_plan",
    "run_plan",
    "write",
]
