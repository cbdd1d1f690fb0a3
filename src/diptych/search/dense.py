"""Vectors of which few numbers are 0: float32 rows, scanned, and usearch's HNSW graph over them when they are many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from usearch.index import BatchMatches, Matches
from usearch.index import Index as Graph

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

SCAN_UP_TO = 2_000_000  # numbers (rows x dim): up to here a scan takes about as long as walking the graph
_SCAN_QUERIES = 64  # a scan holds a score for so many queries and so many rows at one time
_SCAN_ROWS = 131_072
_SPARE = 8  # further candidates, so that rounding in the last place cannot push out a true hit


class DenseVectors:
    """Rows 0 to `count` - 1 of a growing matrix, without holes, and the graph over them. The index does the locking.

    Nothing is ever taken out of the graph, because HNSW loses its way where nodes go: each vector that is put gets a
    new node, and a node whose vector was replaced or dropped leads to no row until the graph is built anew.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.count = dim, 0
        self._matrix: Floats = np.empty((0, dim), np.float32)  # with room for rows to come
        self._graph: Graph | None = None
        self._row_of_node: Rows = np.empty(0, np.int64)  # -1: the vector is gone; with room for nodes to come
        self._node_of_row: Rows = np.empty(0, np.int64)
        self._nodes = 0

    def put(self, rows: Rows, vectors: Floats) -> None:
        """Write rows; those from `count` on are new and follow each other."""
        before, self.count = self.count, max(self.count, int(rows.max(initial=-1)) + 1)
        self._matrix = with_room(self._matrix, before, self.count)
        self._matrix[rows] = vectors
        if self._graph is not None:
            self._row_of_node[self._node_of_row[rows[rows < before]]] = -1
            self._link(self._graph, rows, vectors, before)

    def _link(self, graph: Graph, rows: Rows, vectors: Floats, before: int) -> None:
        nodes = np.arange(self._nodes, self._nodes + len(rows))
        self._row_of_node = with_room(self._row_of_node, self._nodes, self._nodes + len(rows))
        self._node_of_row = with_room(self._node_of_row, before, self.count)
        self._row_of_node[nodes], self._node_of_row[rows] = rows, nodes
        self._nodes += len(rows)
        _extend(graph, nodes, vectors)

    def drop(self, row: int) -> None:
        """Take a row out; the last one moves to its place."""
        last = self.count = self.count - 1
        self._matrix[row] = self._matrix[last]
        if self._graph is not None:
            self._row_of_node[self._node_of_row[row]] = -1
            if row != last:
                self._node_of_row[row] = self._node_of_row[last]
                self._row_of_node[self._node_of_row[row]] = row

    def take(self, rows: Rows) -> Floats:
        """Copies of some rows, M x dim."""
        return self._matrix[rows]

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Inner products of the query with some rows, in float32."""
        return self._matrix[rows] @ query

    def near(self, queries: Floats, k: int, *, exact: bool, kept: Rows | None) -> Sequence[Rows]:
        """For each query, rows (of `kept`, if given) among which are the k best: surely if `exact`."""
        graph, share = self._graph, 1.0 if kept is None else len(kept) / max(1, self.count)
        if exact or graph is None or share * self.count * self.dim <= SCAN_UP_TO:
            return self._scan(queries, k, kept)
        alive = share * self.count / max(1, self._nodes)  # of the nodes that a walk meets, those that may be answers
        wanted = k if alive == 1 else math.ceil(1.5 * k / max(alive, 1e-9))
        wanted = min(self._nodes, wanted + _SPARE)  # the graph's bfloat16 may swap neighbours
        found = [self._row_of_node[nodes] for nodes in _keys(graph.search(queries, wanted))]
        allowed = np.zeros(self.count + 1, dtype=bool)  # the last place is that of -1
        allowed[slice(0, self.count) if kept is None else kept] = True
        found = [rows[allowed[rows]] for rows in found]
        enough = min(k, self.count if kept is None else len(kept))
        for i, rows in enumerate(found):
            if len(rows) < enough:  # the filter and the query point to different regions
                found[i] = self._scan(queries[i : i + 1], k, kept)[0]
        return found

    def _scan(self, queries: Floats, k: int, kept: Rows | None) -> Sequence[Rows]:
        count = self.count if kept is None else len(kept)
        if not count:
            return [np.empty(0, np.int64) for _ in queries]
        found: list[list[Rows]] = [[] for _ in queries]
        for start in range(0, count, _SCAN_ROWS):
            stop = min(start + _SCAN_ROWS, count)
            rows = self._matrix[start:stop] if kept is None else self._matrix[kept[start:stop]]
            for first in range(0, len(queries), _SCAN_QUERIES):
                some = queries[first : first + _SCAN_QUERIES]
                # for one query einsum reads at the memory's speed; BLAS, whose threads wait for each other, does not
                scores = np.einsum("ij,j->i", rows, some[0])[None] if len(some) == 1 else (rows @ some.T).T.copy()
                best = torch.from_numpy(scores).topk(min(len(rows), k + _SPARE), sorted=False).indices.numpy()
                for i, places in enumerate(best):
                    found[first + i].append(start + places if kept is None else kept[start + places])
        return [np.concatenate(parts) for parts in found]

    def tidy(self) -> Callable[[], None] | None:
        """Do the long work that is due: build a graph, or anew one of which more than half leads nowhere.

        Returns the short step that puts it in place, for when nobody reads. Rows must not change until then.
        """
        missing = self._graph is None and self.count * self.dim > SCAN_UP_TO
        worn = self._graph is not None and self._nodes - self.count > max(1000, self.count)
        if not (missing or worn):
            return None
        graph = _new_graph(self.dim)
        _extend(graph, np.arange(self.count), self._matrix[: self.count])

        def install() -> None:
            self._graph, self._nodes = graph, self.count
            self._row_of_node, self._node_of_row = np.arange(self.count), np.arange(self.count)

        return install

    def save(self, folder: Path) -> dict[str, int]:
        """Write the files of a generation. Returns what `load` needs to know besides."""
        np.save(folder / "vectors.npy", self._matrix[: self.count])
        if self._graph is not None:
            self._graph.save(str(folder / "graph.usearch"))
            np.save(folder / "nodes.npy", self._row_of_node[: self._nodes])
        return {}

    @classmethod
    def load(cls, folder: Path, dim: int, count: int) -> DenseVectors:
        """Read what `save` wrote. Raises `ValueError` if it does not fit together."""
        vectors = cls(dim)
        vectors.count = count
        vectors._matrix = mapped(folder / "vectors.npy", (count, dim), np.dtype(np.float32))
        if (folder / "graph.usearch").exists():
            graph = _new_graph(dim)
            graph.load(str(folder / "graph.usearch"))
            rows = np.load(folder / "nodes.npy")
            nodes = np.flatnonzero(rows >= 0)
            if len(graph) != len(rows) or not np.array_equal(np.sort(rows[nodes]), np.arange(count)):
                raise ValueError(f"expected a graph that leads to {count} rows")
            vectors._graph, vectors._nodes, vectors._row_of_node = graph, len(rows), rows
            vectors._node_of_row = np.empty(count, np.int64)
            vectors._node_of_row[rows[nodes]] = nodes
        return vectors


def with_room(array: NDArray[Any], used: int, needed: int) -> NDArray[Any]:
    """`array` with room for at least `needed` rows, its first `used` kept; grows by doubling."""
    if needed <= len(array):
        return array
    grown = np.empty((max(needed, 2 * used, 1024), *array.shape[1:]), array.dtype)
    grown[:used] = array[:used]
    return grown


def mapped(file: Path, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """A saved array: pages are read when needed; what is changed is copied, the file stays as it is."""
    array = cast(NDArray[Any], np.load(file, mmap_mode="c" if shape[0] else None))  # nothing cannot be mapped
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{file.name}: expected {shape} of {dtype}, got {array.shape} of {array.dtype}")
    return array


def _new_graph(dim: int) -> Graph:
    # bfloat16 halves the memory at no loss of recall; vectors are normalised where the metric is the cosine
    return Graph(ndim=dim, metric="ip", dtype="bf16", connectivity=16, expansion_add=128, expansion_search=64)


def _extend(graph: Graph, nodes: Rows, vectors: Floats) -> None:
    """Add nodes; the first ones by one thread, because several that start an empty graph leave nodes unreachable."""
    alone = max(0, min(len(nodes), 1000 - len(graph)))
    if alone:
        graph.add(nodes[:alone], vectors[:alone], threads=1)
    if alone < len(nodes):
        graph.add(nodes[alone:], vectors[alone:])


def _keys(matches: Matches | BatchMatches) -> list[Rows]:
    """What usearch found for each query; it answers a single one in another shape."""
    if isinstance(matches, Matches):
        return [matches.keys.astype(np.int64)]
    return [keys[:count].astype(np.int64) for keys, count in zip(matches.keys, matches.counts)]
