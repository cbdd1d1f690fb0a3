"""How fast the vector index answers: `python benchmarks/search.py [--rows 100000] [--dim 384] [--queries 300]`.

Every query goes through all four ways in turn, so that whatever else the machine does falls on each of them alike:
numpy's brute force (one matrix-vector product, then a partial sort), plain usearch, and the index in both modes.
Recall is counted against brute force in float32. Vectors are clustered as embeddings are: centres plus noise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from diptych.search import VectorIndex

K = 10


def clustered(rows: int, dim: int, centres: int, noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors around `centres` random directions; `noise` is the noise's size relative to a centre's."""
    centre = rng.standard_normal((centres, dim), dtype=np.float32)
    return unit(centre[rng.integers(0, centres, rows)] + noise * rng.standard_normal((rows, dim), dtype=np.float32))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def brute(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows of the K highest inner products, best first."""
    scores = vectors @ query
    best = np.argpartition(scores, -K)[-K:]
    return best[np.argsort(-scores[best])]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what `run` gave."""
    start = time.perf_counter()
    result = run()
    return 1000 * (time.perf_counter() - start), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--centres", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    vectors = clustered(args.rows, args.dim, args.centres, args.noise, rng)
    near = vectors[rng.integers(0, args.rows, args.queries)]
    queries = unit(near + 0.03 * rng.standard_normal(near.shape, dtype=np.float32))
    ids = [str(i) for i in range(args.rows)]
    fields = [{"part": i % 10} for i in range(args.rows)]

    with tempfile.TemporaryDirectory() as folder:
        index = VectorIndex.create(folder, args.dim)
        print(f"{args.rows:,} x {args.dim}, {args.queries} queries, k = {K}")
        print(f"add    {timed(lambda: index.add(ids, vectors, fields))[0] / 1000:8.2f} s")
        print(f"save   {timed(index.save)[0] / 1000:8.2f} s")
        took, index = timed(lambda: VectorIndex.open(folder))
        print(f"open   {took / 1000:8.2f} s")
        plain = Index(ndim=args.dim, metric="ip", dtype="bf16", connectivity=16, expansion_add=128, expansion_search=64)
        took = timed(lambda: plain.add(np.arange(args.rows), vectors))[0]
        print(f"plain usearch, the same settings, in one batch: built in {took / 1000:.2f} s\n")

        def rows(hits: list[Any]) -> list[int]:
            return [int(hit.id) for hit in hits[0]]

        ways: dict[str, Callable[[NDArray[np.float32]], Any]] = {
            "numpy brute force": lambda q: brute(vectors, q).tolist(),
            "plain usearch": lambda q: plain.search(q, K).keys.tolist(),
            "index": lambda q: rows(index.search(q, K)),
            "index, one tenth by a filter": lambda q: rows(index.search(q, K, where={"part": 3})),
            "index, exact": lambda q: rows(index.search(q, K, exact=True)),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        recalls: dict[str, list[float]] = {name: [] for name in ways}
        for number, query in enumerate([queries[0], *queries]):
            truth: list[int] = []
            for name, way in ways.items():
                took, found = timed(lambda way=way, query=query: way(query))
                truth = truth or found
                if number:  # the first query warms up
                    times[name].append(took)
                    recalls[name].append(len(set(found) & set(truth)) / K)
        base = np.median(times["numpy brute force"])
        print(f"{'':30}{'recall@10':>10}{'p50 ms':>10}{'p95 ms':>10}{'x numpy':>10}")
        for name, took_all in times.items():
            p50, p95 = np.percentile(took_all, [50, 95])
            recall = "" if "filter" in name else f"{np.mean(recalls[name]):.4f}"
            print(f"{name:30}{recall:>10}{p50:10.3f}{p95:10.3f}{base / p50:10.1f}")


if __name__ == "__main__":
    main()
