"""A vector index in a folder: vectors, ids and flat fields; searched, changed and saved by many threads at once."""

from __future__ import annotations

import json
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

from diptych.search.dense import DenseVectors
from diptych.search.locks import ReadWriteLock
from diptych.search.rows import Fields, Rows, Where
from diptych.search.sparse import SparseVectors
from diptych.tasks.retrieve import Hit
from diptych.types import InputError

Metric = Literal["cosine", "inner"]

_FORMAT = 1
_ADD_AT_ONCE = 128  # vectors that a search may have to wait for
_KINDS: dict[str, type[DenseVectors] | type[SparseVectors]] = {"dense": DenseVectors, "sparse": SparseVectors}


class VectorIndex:
    """Vectors with ids and flat fields, searched by the graph or exactly, kept in a folder.

    Any number of threads may search, add, delete and save at once; a search sees each `add` in whole batches of rows.
    Changes are on disk after `save`; a process killed at any moment leaves the last saved state. One process at a time
    may write to a folder; others may have it open. Small indexes have no graph, and those of sparse vectors never have:
    every search of them is exact.
    """

    def __init__(self, folder: Path, dim: int, metric: Metric, kind: str, meta: Mapping[str, str]) -> None:
        """Not for callers: use `create` or `open`."""
        self.folder, self.dim, self.metric, self.kind = folder, dim, metric, kind
        self.meta = dict(meta)
        self._rows = Rows()
        self._vectors = _KINDS[kind](dim)
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
        metric: Metric = "cosine",
        sparse: bool = False,
        meta: Mapping[str, str] | None = None,
    ) -> VectorIndex:
        """An empty index for vectors of length `dim`, written to `folder` by `save`.

        "cosine" scores by the cosine, "inner" by the inner product. `sparse` keeps only numbers that are not 0, for
        vectors of which most are. `meta` is kept with the index, e.g. which model made the vectors. Raises `InputError`
        if the folder holds an index.
        """
        if cls.exists(folder):
            raise InputError(f"{folder}: holds an index; open it, or remove the folder first")
        if dim < 1 or metric not in ("cosine", "inner"):
            raise InputError(f"index: expected dim >= 1 and metric 'cosine' or 'inner', got {dim} and {metric!r}")
        return cls(Path(folder), dim, metric, "sparse" if sparse else "dense", meta or {})

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
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{folder}: the index cannot be read: {error}") from None
        raise AssertionError("unreachable")

    @classmethod
    def _read(cls, folder: Path, manifest: dict[str, Any]) -> VectorIndex:
        index = cls(folder, manifest["dim"], manifest["metric"], manifest["kind"], manifest["meta"])
        generation, count = folder / manifest["generation"], manifest["rows"]
        index._rows = Rows.from_table(pq.read_table(generation / "rows.parquet"))
        if len(index._rows) != count:
            raise ValueError(f"expected {count} rows, got {len(index._rows)}")
        index._vectors = _KINDS[index.kind].load(generation, index.dim, count, **manifest["vectors"])
        index._changed = False
        return index

    def save(self) -> None:
        """Write the index to its folder: a new generation beside the old one, then one atomic step from old to new.

        Searches go on meanwhile, changes wait.
        """
        with self._writer:
            if not self._changed:
                return
            self._tidy()
            name = f"generation-{time.time_ns()}-{os.getpid()}"
            generation = self.folder / name
            generation.mkdir(parents=True)
            pq.write_table(self._rows.table(), generation / "rows.parquet")
            vectors = self._vectors.save(generation)
            for file in generation.iterdir():
                _sync(file)
            manifest = {
                "format": _FORMAT,
                "dim": self.dim,
                "metric": self.metric,
                "kind": self.kind,
                "rows": len(self),
                "vectors": vectors,
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
            return self._vectors.take(np.asarray(rows, dtype=np.int64))

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
            self._tidy()

    def _add(self, ids: Sequence[str], vectors: NDArray[np.float32], fields: Sequence[Fields]) -> None:
        self._changed = True
        rows = [self._rows.put(id, given) for id, given in zip(ids, fields)]
        self._vectors.put(np.array(rows, dtype=np.int64), vectors)

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
        self._vectors.drop(self._rows.remove(id))
        return True

    def _tidy(self) -> None:
        # callers hold _writer, so that rows stay as they are, while searches go on
        install = self._vectors.tidy()
        if install is not None:
            with self._lock.write():
                install()
                self._changed = True

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
            found = self._vectors.near(queries, k, exact=exact, kept=kept)
            return [self._best(query, rows, k) for query, rows in zip(queries, found)]

    def _best(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Hit]:
        scores = self._vectors.scores(query, rows)
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
