"""The step that keeps test data out of training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.duplicates import Duplicates, every_picture, thumbnails
from diptych.data.curate.leakage import Fingerprints, nearest
from diptych.data.curate.steps import Array, Decision, Models, Step, Tools


@strict
@dataclass(frozen=True)
class Leaks(Step):
    """Drop rows whose picture stands in another dataset as well, equal or nearly: no training on what is tested.

    Which pictures repeat each other is told as by the step "duplicates". A row without a readable picture passes, one
    with several goes if any of them stands there. See
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
        """Hashes of each picture."""
        return Duplicates().measure(batch, models)

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        from diptych.data import open_dataset  # it imports this package's neighbours

        other = open_dataset(self.against)
        sentence = f"Pictures that stand in {other.name} as well were dropped."
        if not len(other):
            return Decision(sentence)
        of_seen, seen = every_picture(tools.measure(self, other))
        of_asked, asked = every_picture(rows)
        equal = pc.index_in(asked["digest"], value_set=seen["digest"].combine_chunks())
        found = [np.asarray(pc.fill_null(equal, -1).to_numpy(), dtype=np.int64)]
        if self.difference is not None:
            found.append(nearest(_fingerprints(of_seen, seen), _fingerprints(of_asked, asked), self.difference)[0])
        leaks = np.full(len(rows), -1)
        for place in reversed(found):  # what is equal is named rather than what is near
            leaks[of_asked[place >= 0]] = of_seen[place[place >= 0]]

        def say(row: int) -> tuple[str, str]:
            return (f"repeats {other.take([int(leaks[row])], ('id',))[0].id} of {other.name}", "")

        return Decision(sentence, keep=leaks < 0, say=say)


def _fingerprints(of_row: Array, hashes: Any) -> Fingerprints:
    return Fingerprints(of_row, (), (), hashes["bits"].to_numpy(), thumbnails(hashes), 0)
