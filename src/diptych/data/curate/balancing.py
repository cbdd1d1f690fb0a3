"""The step that balances concepts: what everybody photographs is thinned, what is rare is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.balance import balance, entry_counts, limit_for
from diptych.data.curate.concepts import ConceptMatcher, read_entries
from diptych.data.curate.lists import counts, flat
from diptych.data.curate.steps import Decision, Models, Step, Tools
from diptych.types import InputError


@strict
@dataclass(frozen=True)
class Balance(Step):
    """Thin the commonest concepts, as MetaCLIP does; a row whose captions name no concept is dropped.

    Xu et al., "Demystifying CLIP Data" (2023), see `diptych.data.curate.concepts` and `diptych.data.curate.balance`.

    Attributes:
        entries: a file of concepts: a JSON list of texts, or one a line.
        limit: rows that each concept draws, on average; None takes the least that leaves 6 % of the matches to concepts
            below it, as in the paper.
    """

    do: Literal["balance"] = "balance"
    entries: str = field(kw_only=True)
    limit: Annotated[int, Field(ge=1)] | None = None

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    measures_texts: ClassVar[tuple[str, ...]] = ("captions",)
    per_row: ClassVar[bool] = False

    def measures(self, models: Models) -> str:
        """The concepts of the file's content."""
        return f"concepts 1 {_content(self.entries)}"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """The numbers of the concepts that a row's captions name, rising, each once."""
        _, matcher = _matcher(self.entries, _content(self.entries))
        found = matcher.match(flat(batch["captions"]))
        of_text = np.repeat(np.arange(len(batch)), counts(batch["captions"]))
        of_match = np.repeat(of_text, np.diff(found.row_offsets))
        pairs = np.unique(np.stack([of_match, found.entry_ids]), axis=1)
        offsets = np.searchsorted(pairs[0], np.arange(len(batch) + 1))
        column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(pairs[1], pa.int32()))
        return {"concepts": column}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        names, _ = _matcher(self.entries, _content(self.entries))
        concepts = rows["concepts"]
        found = pc.list_flatten(concepts).to_numpy()
        how_many = counts(concepts)
        if not len(found):
            raise InputError(f"{self.entries}: none of its concepts is named by any caption")
        limit = self.limit if self.limit is not None else limit_for(entry_counts(found))
        keys = np.array([_key(id) for id in rows["id"].to_pylist()], np.uint64)
        offsets = np.concatenate([[0], np.cumsum(how_many)])
        keep = balance(offsets, found, limit, tools.seed, keys=keys)

        def say(row: int) -> tuple[str, str]:
            own = [names[entry] for entry in concepts[row].as_py()]
            return (f"only common concepts: {', '.join(own)}" if own else "no concept", "")

        return Decision(
            f"Concepts that more than {limit:,} rows name were thinned to about that; "
            "rows that name no concept were dropped.",
            keep=keep,
            say=say,
        )


def _content(path: str) -> str:
    try:
        return hashlib.blake2b(Path(path).expanduser().read_bytes(), digest_size=12).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a list of concepts: {error}") from None


@lru_cache(maxsize=2)
def _matcher(path: str, content: str) -> tuple[list[str], ConceptMatcher]:
    entries = read_entries(Path(path).expanduser())
    return entries, ConceptMatcher(entries)


def _key(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")
