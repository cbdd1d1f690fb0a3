"""Caps, so that no author and no phrase fills the data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import counts, joined
from diptych.data.curate.steps import Array, Decision, Step, Tools

CappedField = Literal["caption", "creator", "label", "source", "license", "url", "split", "group"]


@strict
@dataclass(frozen=True)
class Uncaptioned(Step):
    """Drop rows that have no caption."""

    do: Literal["uncaptioned"] = "uncaptioned"

    reads: ClassVar[tuple[str, ...]] = ("captions",)

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        return Decision(
            "Pictures without any usable text were dropped.",
            keep=counts(rows["captions"]) > 0,
            say=lambda row: ("no text is left", ""),
        )


@strict
@dataclass(frozen=True)
class Cap(Step):
    """Keep at most `most` rows of each value; which ones is decided by a hash of (seed, id), so it is stable.

    Rows whose value is empty are not limited.

    Attributes:
        per: the field whose values are capped; "caption" means all captions of a row together.
        most: rows of one value.
    """

    do: Literal["cap"] = "cap"
    per: CappedField = "creator"
    most: Annotated[int, Field(ge=1)] = 1000

    per_row: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]  # depends on a setting
        """The capped column."""
        return (self._column,)

    @property
    def name(self) -> str:
        """Says what is capped."""
        return f"cap per {self.per}"

    @property
    def _column(self) -> str:
        return "captions" if self.per == "caption" else self.per

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        column = rows[self._column]
        values = joined(column) if self.per == "caption" else pc.fill_null(column, "")
        return Decision(
            f"At most {self.most} pictures of one {self.per} were kept.",
            keep=within_cap(values, rows["id"], self.most, tools.seed),
            say=lambda row: (f"{self.per} '{values[row].as_py()}'", ""),
        )


def within_cap(values: Any, ids: Any, most: int, seed: int) -> Array:
    """Which rows stay when each value other than "" keeps `most` of its rows: those whose hash is least."""
    table = pc.value_counts(values)
    crowded = table.filter(pc.and_(pc.greater(table.field("counts"), most), pc.not_equal(table.field("values"), "")))
    group = pc.index_in(values, value_set=crowded.field("values"))
    rows = np.flatnonzero(pc.is_valid(group).to_numpy())
    keep = np.ones(len(ids), dtype=bool)
    if len(rows):
        groups = pc.drop_null(group).to_numpy()
        drawn = np.array([_draw(seed, id) for id in ids.filter(pc.is_valid(group)).to_pylist()], dtype=np.uint64)
        order = np.lexsort((drawn, groups))
        starts = np.searchsorted(groups[order], groups[order])  # where each one's group begins
        keep[rows[order[np.arange(len(order)) - starts >= most]]] = False
    return keep


def _draw(seed: int, id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id}".encode(), digest_size=8).digest(), "big")
