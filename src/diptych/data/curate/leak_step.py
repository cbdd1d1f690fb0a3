"""The step that keeps test data out of training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.duplicates import Duplicates, thumbnails
from diptych.data.curate.leakage import Fingerprints, nearest
from diptych.data.curate.steps import Array, Decision, Models, Step, Tools


@strict
@dataclass(frozen=True)
class Leaks(Step):
    """Drop rows whose picture stands in another dataset as well, equal or nearly: no training on what is tested.

    Which pictures repeat each other is told as by the step "duplicates". A row without a readable picture passes. See
    `diptych.data.curate.leakage` for a report on two datasets, which also looks at captions.

    Attributes:
        against: the address of the other dataset.
        difference: as in "duplicates"; None for equal pixels only.
    """

    do: Literal["leaks"] = "leaks"
    against: str = field(kw_only=True)
    difference: Annotated[float, Field(ge=0, le=255)] | None = 2.0

    sees_pictures: ClassVar[bool] = True

    def measures(self, models: Models) -> str:
        """The same hashes as the step "duplicates"."""
        return Duplicates().measures(models)

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """Hashes of each picture; null where it cannot be read."""
        return Duplicates().measure(batch, models)

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        from diptych.data import open_dataset  # it imports this package's neighbours

        other = open_dataset(self.against)
        sentence = f"Pictures that stand in {other.name} as well were dropped."
        if not len(other):
            return Decision(sentence)
        hashes = tools.measure(self, other)
        equal = pc.index_in(rows["digest"], value_set=hashes["digest"].combine_chunks(), skip_nulls=True)
        leaks = np.asarray(pc.fill_null(equal, -1).to_numpy(), dtype=np.int64)
        if self.difference is not None:
            seen, asked = _readable(hashes), _readable(rows)
            found, _ = nearest(seen, asked, self.difference)
            place = np.where(found >= 0, seen.rows[found], -1) if len(seen.rows) else found
            leaks[asked.rows] = np.where(leaks[asked.rows] >= 0, leaks[asked.rows], place)

        def say(row: int) -> tuple[str, str]:
            return (f"repeats {other.take([int(leaks[row])], ('id',))[0].id} of {other.name}", "")

        return Decision(sentence, keep=leaks < 0, say=say)


def _readable(hashes: Any) -> Fingerprints:
    """The hashes of the pictures that could be read, with their places."""
    read: Array = np.flatnonzero(pc.is_valid(hashes["digest"]).to_numpy())
    bits = pc.fill_null(hashes["bits"], 0).to_numpy()[read]
    return Fingerprints(read, (), (), bits, thumbnails(hashes)[read], len(hashes) - len(read))
