"""What a curation step reports about itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a step changed or dropped, in words: what stood there, and what stands there now ("" if dropped)."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step's effect: a sentence, rows before and after, and every change."""

    name: str
    sentence: str
    rows_before: int
    rows_after: int
    changes: list[Change] = field(default_factory=list)
