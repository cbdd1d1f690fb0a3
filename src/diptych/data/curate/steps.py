"""What a curation step is: it may measure rows one by one, it decides over all of them, and it reports itself.

`measure` is a pure function of a few rows and may look at their pictures; it runs on threads or through Ray, and what
it gives is kept on disk. `decide` sees the small columns of all rows at once, never a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.data.store import Dataset

Array = np.ndarray[Any, np.dtype[Any]]

EXAMPLES = 60  # of each step, drawn at random from the rows that it touched


class PairEncoder(Protocol):
    """A dual encoder as curation sees one. Rows are L2-normalised float32."""

    fingerprint: str  # equal fingerprints, equal vectors

    def images(self, pictures: Sequence[bytes]) -> tuple[Array, Array]:
        """(vectors N D, which of the pictures could be read: booleans N; the vectors of the others are zero)."""
        ...

    def texts(self, texts: Sequence[str]) -> Array:
        """Vectors N D."""
        ...


Models = Callable[[str], PairEncoder]
"""A dual encoder by its address. Ray sends it to other processes, so it must be a function of a module."""


def no_models(address: str) -> PairEncoder:
    """For plans without models. Raises `InputError`."""
    raise InputError(f"the plan names the model '{address}', and no models were given; use diptych.curate")


class Tools(NamedTuple):
    """What a decision may use besides the rows.

    Attributes:
        seed: of everything that is drawn.
        models: dual encoders by address.
        measure: what a step measures on the rows of another dataset, as a table in that dataset's order.
    """

    seed: int
    models: Models
    measure: Callable[[Step, Dataset], Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a step changed or dropped, in words: what stood there, and what stands there now ("" if dropped).

    `row` is its place in the dataset before curation.
    """

    id: str
    before: str
    after: str
    row: int


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step's effect: a sentence, rows before and after, how many rows it changed or dropped, some of these.

    `per_row` says that each row was judged by itself, so that a sample of rows tells the share in all of them.
    """

    name: str
    sentence: str
    rows_before: int
    rows_after: int
    changed: int
    examples: Sequence[Change] = ()
    per_row: bool = False


class CurationReport(NamedTuple):
    """What a curation did, step by step; `rows_in_all` is the dataset's size, of which a preview takes a sample."""

    rows_before: int
    rows_after: int
    steps: list[StepReport]
    rows_in_all: int


@dataclass(frozen=True)
class Decision:
    """What a step makes of N rows.

    Attributes:
        sentence: what was done, for a person.
        keep: booleans N; None keeps all.
        columns: new values of text columns ("captions", "tags"), N rows each.
        changed: booleans N, the rows that were touched; by default those that are not kept.
        say: (before, after) of row i in words.
        scores: float64 N for `Sample.scores`, NaN where there is none.
    """

    sentence: str
    keep: Array | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    changed: Array | None = None
    say: Callable[[int], tuple[str, str]] = lambda row: ("", "")
    scores: Mapping[str, Array] = field(default_factory=dict)


class Step(ABC):
    """One step of a plan: a frozen dataclass whose fields are its settings, told from the others by its field `do`.

    Attributes:
        reads: columns of the dataset that `decide` and `measure` need; "path" is the side text or else the id.
        measures_texts: the columns of these that `measure` needs.
        sees_pictures: `measure` needs the columns "picture", the encoded bytes of a row's first, null where there is
            none, and "more", the list of its others.
        per_row: what becomes of a row depends on that row alone.
    """

    do: str
    reads: ClassVar[tuple[str, ...]] = ()
    measures_texts: ClassVar[tuple[str, ...]] = ()
    sees_pictures: ClassVar[bool] = False
    per_row: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.do.replace("-", " ")

    def measures(self, models: Models) -> str:
        """Names what it measures: equal names, equal values. "" if it measures nothing."""
        return ""

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """Columns (Arrow arrays) for the rows of a small Arrow table."""
        return {}

    @abstractmethod
    def decide(self, rows: Any, tools: Tools) -> Decision:
        """What becomes of the rows of an Arrow table with the columns `reads`, "row", "id" and what was measured."""


def report(step: Step, decision: Decision, rows: Any, seed: int) -> StepReport:
    """The report of one decision, with examples drawn at random."""
    touched = np.flatnonzero(_touched(decision, len(rows)))
    rng = np.random.default_rng([seed, EXAMPLES])
    drawn = np.sort(rng.choice(touched, min(EXAMPLES, len(touched)), replace=False))
    changes = []
    for i in drawn.tolist():
        before, after = decision.say(i)
        changes.append(Change(rows["id"][i].as_py(), before, after, rows["row"][i].as_py()))
    left = len(rows) if decision.keep is None else int(decision.keep.sum())
    return StepReport(step.name, decision.sentence, len(rows), left, len(touched), changes, step.per_row)


def _touched(decision: Decision, count: int) -> Array:
    if decision.changed is not None:
        return decision.changed
    return np.zeros(count, dtype=bool) if decision.keep is None else ~decision.keep
