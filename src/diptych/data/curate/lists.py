"""Columns of lists of texts, such as captions, worked on without making a Python object of every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.curate.steps import Array, Decision
from diptych.data.schema import TEXT, TEXTS

SLICE = 65_536  # rows that stand as Python objects at one time


def counts(column: Any) -> Array:
    """How many entries the list of each row has; 0 for a null."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0).to_numpy(), dtype=np.int64)


def flat(column: Any) -> Any:
    """All entries of all rows, in order, as one chunked array; a null entry is the empty text."""
    return pc.fill_null(pc.list_flatten(column), "")


def joined(column: Any, separator: str = " | ") -> Any:
    """The entries of each row as one text, "" for none."""
    return pc.fill_null(pc.binary_join(column, separator), "")


def pieces(table: Any) -> Iterator[dict[str, list[Any]]]:
    """The table's columns as Python lists, a slice of rows at a time."""
    for start in range(0, len(table), SLICE):
        yield table.slice(start, SLICE).to_pydict()


def column_of(parts: list[list[list[str]]]) -> Any:
    """A column of lists of texts from slices of Python lists."""
    return pa.chunked_array([pa.array(part, TEXTS) for part in parts], TEXTS)


def filtered(column: Any, good: Array) -> Any:
    """The column without the entries for which `good` (one boolean an entry of `flat`) is false."""
    parts, start = [], 0
    for chunk in column.chunks:
        lengths = counts(chunk)
        values = flat(chunk)
        mask = good[start : start + len(values)]
        start += len(values)
        kept = np.concatenate([[0], np.cumsum(mask)])[np.concatenate([[0], np.cumsum(lengths)])]
        parts.append(pa.ListArray.from_arrays(pa.array(kept, pa.int32()), values.filter(pa.array(mask))))
    return pa.chunked_array(parts, pa.list_(TEXT))


def judge_captions(rows: Any, good: Array, sentence: str, note: Callable[[int], str] | None = None) -> Decision:
    """Keep the captions that are good; a row that loses its last one is dropped, one that had none stays.

    Args:
        rows: with the column "captions".
        good: one boolean a caption, in the order of `flat`.
        note: what to say of a caption that is not good, by its place in that order.
    """
    captions = rows["captions"]
    had = counts(captions)
    places = np.concatenate([[0], np.cumsum(had)])
    left = np.diff(np.concatenate([[0], np.cumsum(good)])[places])
    new = filtered(captions, good)

    def say(row: int) -> tuple[str, str]:
        before = [
            text if note is None or good[place] else f"{text} ({note(place)})"
            for place, text in enumerate(captions[row].as_py() or [], places[row])
        ]
        return " | ".join(before), " | ".join(new[row].as_py())

    return Decision(sentence, keep=(left > 0) | (had == 0), columns={"captions": new}, changed=left < had, say=say)
