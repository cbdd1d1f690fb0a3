"""A vector index in a folder: usearch's HNSW graph, the float32 vectors themselves, ids and flat fields."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from usearch.index import BatchMatches, Matches
from usearch.index import Index as Graph
from usearch.index import search as scan

from diptych.search.locks import ReadWriteLock
from diptych.search.rows import Fields, Rows, Where
from diptych.tasks.retrieve import Hit
from diptych.types import InputError

_FORMAT = 1
_SCAN_UP_TO = 2_000_000  # numbers (rows x dim): up to here a scan takes about as long as walking the graph
_ADD_AT_ONCE = 128  # vectors that a search may have to wait for
_SCAN_QUERIES = 16  # usearch's scan holds a distance for every query and row
_SCAN_ROWS = 65_536
_SPARE = 8  # further candidates of a scan, so that rounding in its last place cannot push out a true hit


class VectorIndex:
    """Vectors with ids and flat fields, searched by the graph or exactly, kept in a folder.

    Any number of threads may search, add, delete and save at once; a search sees each `add` in whole batches of rows.
    Changes are on disk after `save`; a process killed at any moment leaves the last saved state. One process at a time
    may write to a folder; others may have it open. Small indexes have no graph: every search of them is exact.
    """

    def __init__(self, folder: Path, dim: int, metric: Literal["cosine", "inner"], meta: Mapping[str, str]) -> None:
        """Not for callers: use `create` or `open`."""
        self.folder, self.dim, self.metric = folder, dim, metric
        self.meta = dict(meta)
        self._rows = Rows()
        self._vectors: NDArray[np.float32] = np.empty((0, dim), np.float32)  # with room for rows to come
        self._graph: Graph | None = None
        self._removed = 0  # nodes taken out of the graph since it was built
        self._changed = True
        self._lock = ReadWriteLock()
        self._writer = threading.RLock()

    # ------------------------------------------------------------ open and save

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether `folder` holds a saved index."""
        return (Path(folder) / "index.json").is_file()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        dim: int,
        *,
        metric: Literal["cosine", "inner"] = "cosine",
        meta: Mapping[str, str] | None = None,
    ) -> VectorIndex:
        """An empty index for vectors of length `dim`, written to `folder` by `save`.

        "cosine" scores by the cosine, "inner" by the inner product. `meta` is kept with the index, e.g. which model
        made the vectors. Raises `InputError` if the folder holds an index.
        """
        if cls.exists(folder):
            raise InputError(f"{folder}: holds an index; open it, or remove the folder first")
        if dim < 1 or metric not in ("cosine", "inner"):
            raise InputError(f"index: expected dim >= 1 and metric 'cosine' or 'inner', got {dim} and {metric!r}")
        return cls(Path(folder), dim, metric, meta or {})

    @classmethod
    def open(cls, folder: str | Path) -> VectorIndex:
        """The index as it was last saved in `folder`. Raises `InputError` if there is none or it is broken."""
        folder = Path(folder)
        for attempt in range(5):
            try:
                manifest = json.loads((folder / "index.json").read_text(encoding="utf-8"))
                if manifest.get("format") != _FORMAT:
                    raise InputError(f"{folder}: expected an index of format {_FORMAT}, got {manifest.get('format')!r}")
                return cls._read(folder, manifest)
            except FileNotFoundError as error:
                # another process may have saved between the two reads, and removed what the manifest named
                if attempt == 4 or not cls.exists(folder):
                    raise InputError(f"{folder}: expected a saved index, {error.filename} is missing") from None
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{folder}: the index cannot be read: {error}") from None
        raise AssertionError("unreachable")

    @classmethod
    def _read(cls, folder: Path, manifest: dict[str, Any]) -> VectorIndex:
        index = cls(folder, manifest["dim"], manifest["metric"], manifest["meta"])
        generation = folder / manifest["generation"]
        index._rows = Rows.from_table(pq.read_table(generation / "rows.parquet"))
        count = manifest["rows"]
        if count:  # pages are read when needed; what is changed is copied, the file stays as it is
            index._vectors = np.load(generation / "vectors.npy", mmap_mode="c")
        if len(index._rows) != count or index._vectors.shape != (count, index.dim):
            raise InputError(f"{generation}: expected {count} rows, got {len(index._rows)} and {len(index._vectors)}")
        if manifest["graph"]:
            index._graph = _new_graph(index.dim)
            index._graph.load(str(generation / "graph.usearch"))
            if len(index._graph) != count:
                raise InputError(f"{generation}: expected {count} rows, the graph has {len(index._graph)}")
        index._removed = manifest["removed"]
        index._changed = False
        return index

    def save(self) -> None:
        """Write the index to its folder: a new generation beside the old one, then one atomic step from old to new.

        Searches go on meanwhile, changes wait. A graph of which more nodes were removed than are left is built anew.
        """
        with self._writer:
            if not self._changed:
                return
            if self._graph is not None and self._removed > max(1000, len(self)):
                self._build_graph()
            name = f"generation-{time.time_ns()}-{os.getpid()}"
            generation = self.folder / name
            generation.mkdir(parents=True)
            count = len(self)
            pq.write_table(self._rows.table(), generation / "rows.parquet")
            np.save(generation / "vectors.npy", self._vectors[:count])
            if self._graph is not None:
                self._graph.save(str(generation / "graph.usearch"))
            for file in generation.iterdir():
                _sync(file)
            manifest = {
                "format": _FORMAT,
                "dim": self.dim,
                "metric": self.metric,
                "rows": count,
                "graph": self._graph is not None,
                "removed": self._removed,
                "generation": name,
                "meta": self.meta,
            }
            fresh = generation / "index.json"
            fresh.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            _sync(fresh)
            _sync(generation)
            fresh.replace(self.folder / "index.json")
            _sync(self.folder)
            self._changed = False
            for old in self.folder.glob("generation-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)

    # ------------------------------------------------------------ what is in it

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: str) -> bool:
        return self._rows.row(id) is not None

    def items(self) -> dict[str, Fields]:
        """The fields of every id, in no particular order."""
        with self._lock.read():
            return {id: dict(fields) for id, fields in zip(self._rows.ids, self._rows.fields)}

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The stored vectors of `ids` (N x dim), in their order. Raises `InputError` naming an unknown id."""
        with self._lock.read():
            rows = [self._rows.row(id) for id in ids]
            if None in rows:
                raise InputError(f"index: no row has the id {ids[rows.index(None)]!r}")
            return np.array(self._vectors[np.asarray(rows, dtype=np.int64)])

    # ------------------------------------------------------------ changes

    def add(
        self, ids: Sequence[str], vectors: ArrayLike, fields: Sequence[Mapping[str, str | float | int]] | None = None
    ) -> None:
        """Add rows (vectors: N x dim), or overwrite vector and fields of ids that are there.

        Raises `InputError`, and changes nothing, for a wrong shape, a value that is not finite, an id that is twice in
        the call, or a field that is neither text nor a number, or text in one row and a number in another.
        """
        new = self._checked(vectors)
        if len(new) != len(ids):
            raise InputError(f"vectors: expected one for each of {len(ids)} ids, got {len(new)}")
        with self._writer:
            checked = self._rows.check(ids, fields)
            for start in range(0, len(ids), _ADD_AT_ONCE):
                part = slice(start, start + _ADD_AT_ONCE)
                with self._lock.write():
                    self._add(ids[part], new[part], checked[part])
            if self._graph is None and len(self) * self.dim > _SCAN_UP_TO:
                self._build_graph()

    def _add(self, ids: Sequence[str], vectors: NDArray[np.float32], fields: Sequence[Fields]) -> None:
        self._changed = True
        before = len(self)
        rows = np.array([self._rows.put(id, given) for id, given in zip(ids, fields)], dtype=np.int64)
        if len(self) > len(self._vectors):
            grown = np.empty((max(len(self), 2 * before, 1024), self.dim), np.float32)
            grown[:before] = self._vectors[:before]
            self._vectors = grown
        self._vectors[rows] = vectors
        if self._graph is not None:
            replaced = rows[rows < before]
            if len(replaced):
                self._graph.remove(replaced)
                self._removed += len(replaced)
            self._graph.add(rows, vectors)

    def delete(self, ids: Sequence[str]) -> int:
        """Take rows out; ids that are not there are ignored. Returns how many were there."""
        if isinstance(ids, str):
            raise InputError(f"ids: expected a list of ids, got the text {ids!r}")
        gone = 0
        with self._writer:
            for start in range(0, len(ids), _ADD_AT_ONCE):
                with self._lock.write():
                    gone += sum(self._delete(id) for id in ids[start : start + _ADD_AT_ONCE])
        return gone

    def _delete(self, id: str) -> bool:
        if id not in self:
            return False
        self._changed = True
        row, last = self._rows.remove(id)
        self._vectors[row] = self._vectors[last]
        if self._graph is not None:
            self._graph.remove(row)
            self._removed += 1
            if row != last:
                self._graph.rename(last, row)
        return True

    def _build_graph(self) -> None:
        # callers hold _writer, so that rows stay as they are, while searches go on without the new graph
        graph = _new_graph(self.dim)
        graph.add(np.arange(len(self)), self._vectors[: len(self)])
        with self._lock.write():
            self._graph, self._removed, self._changed = graph, 0, True

    # ------------------------------------------------------------ search

    def search(
        self, vectors: ArrayLike, k: int = 10, *, exact: bool = False, where: Where | None = None
    ) -> list[list[Hit]]:
        """The `k` nearest rows of each query, best first; fewer where the index (or the filter) has fewer.

        Args:
            vectors: queries, M x dim, or one of length dim.
            exact: compare with every row, in float32, instead of walking the graph.
            where: only rows that satisfy it: `{"field": value}`, `{"field": [one, of, these]}` or
                `{"field": {">=": 1990, "<": 2000}}` with ==, !=, <, <=, >, >= and in; all entries must hold, and a row
                without the field does not match; "id" is a field too. Or a function of the fields (and "id") of one row
                that says True or False; it must not use the index.

        Scores are float32 cosines or inner products, whichever way the rows were found. Raises `InputError` for a wrong
        shape, a value that is not finite, or a filter that does not fit the fields.
        """
        if k < 1:
            raise InputError(f"k: expected at least 1, got {k}")
        queries = self._checked(vectors)
        with self._lock.read():
            kept = None if where is None else self._rows.select(where)
            return [self._best(query, found, k) for query, found in zip(queries, self._find(queries, k, exact, kept))]

    def _find(
        self, queries: NDArray[np.float32], k: int, exact: bool, kept: NDArray[np.int64] | None
    ) -> Sequence[NDArray[np.int64]]:
        """For each query the rows that may be among its k best."""
        graph, share = self._graph, 1.0 if kept is None else len(kept) / max(1, len(self))
        if exact or graph is None or share * len(self) * self.dim <= _SCAN_UP_TO:
            return self._scan(queries, k, kept)
        matches = graph.search(queries, min(len(self), math.ceil(k / share * (1 if kept is None else 1.5))))
        found = _keys(matches)
        if kept is not None:
            allowed = np.zeros(len(self), dtype=bool)
            allowed[kept] = True
            found = [rows[allowed[rows]] for rows in found]
            for i, rows in enumerate(found):
                if len(rows) < min(k, len(kept)):  # the filter and the query point to different regions
                    found[i] = self._scan(queries[i : i + 1], k, kept)[0]
        return found

    def _scan(
        self, queries: NDArray[np.float32], k: int, kept: NDArray[np.int64] | None
    ) -> Sequence[NDArray[np.int64]]:
        """Every row (or those in `kept`) against every query."""
        count = len(self) if kept is None else len(kept)
        if not count:
            return [np.empty(0, np.int64) for _ in queries]
        found: list[list[NDArray[np.int64]]] = [[] for _ in queries]
        for start in range(0, count, count if kept is None else _SCAN_ROWS):
            part = None if kept is None else kept[start : start + _SCAN_ROWS]
            rows = self._vectors[:count] if part is None else self._vectors[part]
            for first in range(0, len(queries), _SCAN_QUERIES):
                some = queries[first : first + _SCAN_QUERIES]
                matches = scan(rows, some, min(len(rows), k + _SPARE), metric="ip", exact=True)
                for i, keys in enumerate(_keys(matches)):
                    found[first + i].append(keys if part is None else part[keys])
        return [np.concatenate(parts) for parts in found]

    def _best(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Hit]:
        scores = self._vectors[rows] @ query
        order = np.lexsort((rows, -scores))[:k]  # equal scores: the lower row first
        ids, fields = self._rows.ids, self._rows.fields
        return [
            Hit(ids[row], score, dict(fields[row])) for row, score in zip(rows[order].tolist(), scores[order].tolist())
        ]

    def _checked(self, vectors: ArrayLike) -> NDArray[np.float32]:
        array = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        if array.ndim != 2 or array.shape[1] != self.dim:
            if array.size == 0:
                return np.empty((0, self.dim), np.float32)
            raise InputError(f"vectors: expected N x {self.dim}, got {' x '.join(map(str, np.shape(vectors)))}")
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise InputError(f"vectors: expected finite numbers, vector {bad} has NaN or infinity")
        if self.metric == "cosine":
            norms = np.linalg.norm(array, axis=1, keepdims=True)
            array = array / np.maximum(norms, np.finfo(np.float32).tiny)  # a zero vector stays zero and scores 0
        return np.ascontiguousarray(array)


def _new_graph(dim: int) -> Graph:
    # bfloat16 halves the memory at no loss of recall; vectors are normalised where the metric is the cosine
    return Graph(ndim=dim, metric="ip", dtype="bf16", connectivity=16, expansion_add=128, expansion_search=64)


def _keys(matches: Matches | BatchMatches) -> list[NDArray[np.int64]]:
    """What usearch found for each query; it answers a single one in another shape."""
    if isinstance(matches, Matches):
        return [matches.keys.astype(np.int64)]
    return [keys[:count].astype(np.int64) for keys, count in zip(matches.keys, matches.counts)]


def _sync(path: Path) -> None:
    """Have the system write `path` out before anything after it, against power cuts; for a folder not all can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
