"""Vectors of thousands of numbers of which most are 0, as ASIF's are: the others are kept, every search is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.search.dense import Floats, Rows, mapped, with_room

_AT_ONCE = 256  # rows that are gathered at one time, so that they stay in the cache


class SparseVectors:
    """Rows 0 to `count` - 1, without holes: for each its columns that are not 0, and their values.

    Rows with fewer than the fullest are filled up with column `dim`, which no query has.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.count = dim, 0
        self._columns: NDArray[np.unsignedinteger] = np.empty((0, 1), np.uint16 if dim < 2**16 else np.uint32)
        self._values: Floats = np.empty((0, 1), np.float32)

    def put(self, rows: Rows, vectors: Floats) -> None:
        """Write rows; those from `count` on are new and follow each other."""
        before, self.count = self.count, max(self.count, int(rows.max(initial=-1)) + 1)
        row, column = np.nonzero(vectors)
        lengths = np.bincount(row, minlength=len(vectors))
        self._widen(int(lengths.max(initial=1)))
        self._columns = with_room(self._columns, before, self.count)
        self._values = with_room(self._values, before, self.count)
        self._columns[rows], self._values[rows] = self.dim, 0
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._columns[rows[row], place] = column
        self._values[rows[row], place] = vectors[row, column]

    def _widen(self, width: int) -> None:
        more = ((0, 0), (0, width - self._columns.shape[1]))
        if more[1][1] > 0:
            self._columns = np.pad(self._columns, more, constant_values=self.dim)
            self._values = np.pad(self._values, more)

    def drop(self, row: int) -> None:
        """Take a row out; the last one moves to its place."""
        last = self.count = self.count - 1
        self._columns[row], self._values[row] = self._columns[last], self._values[last]

    def take(self, rows: Rows) -> Floats:
        """Copies of some rows, M x dim."""
        dense = np.zeros((len(rows), self.dim + 1), np.float32)
        np.put_along_axis(dense, self._columns[rows].astype(np.int64), self._values[rows], axis=1)
        return dense[:, : self.dim]

    def scores(self, query: Floats, rows: Rows | slice) -> Floats:
        """Inner products of the query with some rows, in float32."""
        padded = np.append(query, np.float32(0))
        return np.asarray(np.einsum("ij,ij->i", padded.take(self._columns[rows]), self._values[rows]))

    def near(self, queries: Floats, k: int, *, exact: bool, kept: Rows | None) -> Sequence[Rows]:
        """For each query the k best rows (of `kept`, if given)."""
        count = self.count if kept is None else len(kept)
        starts = range(0, count, _AT_ONCE)
        parts = [slice(a, min(a + _AT_ONCE, count)) if kept is None else kept[a : a + _AT_ONCE] for a in starts]
        rows = np.arange(count) if kept is None else kept
        if count <= k:
            return [rows for _ in queries]
        found = []
        for query in queries:
            scores = np.concatenate([self.scores(query, part) for part in parts])
            found.append(rows[np.argpartition(-scores, k - 1)[:k]])
        return found

    def tidy(self) -> Callable[[], None] | None:
        """There is never work due."""
        return None

    def save(self, folder: Path) -> dict[str, int]:
        """Write the files of a generation. Returns what `load` needs to know besides."""
        np.save(folder / "columns.npy", self._columns[: self.count])
        np.save(folder / "values.npy", self._values[: self.count])
        return {"width": self._columns.shape[1]}

    @classmethod
    def load(cls, folder: Path, dim: int, count: int, width: int) -> SparseVectors:
        """Read what `save` wrote. Raises `ValueError` if it does not fit together."""
        vectors = cls(dim)
        vectors.count = count
        vectors._columns = mapped(folder / "columns.npy", (count, width), vectors._columns.dtype)
        vectors._values = mapped(folder / "values.npy", (count, width), np.dtype(np.float32))
        return vectors
