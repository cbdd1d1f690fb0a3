"""Retrieval metrics at the size of COCO (5,000 pictures, 25,000 captions, 512 dimensions), both ways, against sorting.

    python benchmarks/retrieval_metrics.py

Prints seconds and peak memory over the inputs (numpy's own allocations) of our counting and of the usual way (the full
score matrix and a full argsort of its rows and columns), and checks that both give the same recalls.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from diptych.evaluation.metrics.retrieval import ranks_of_embeddings

KS = (1, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--captions", type=int, default=5, help="per picture")
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--skip-sorting", action="store_true")
    sizes = parser.parse_args()

    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((sizes.images, sizes.dims), dtype=np.float32))
    owner = np.repeat(np.arange(sizes.images), sizes.captions)
    noise = rng.standard_normal((len(owner), sizes.dims), dtype=np.float32)
    texts = unit(images[owner] + 0.35 * noise)  # recalls far from 0 and from 1

    ways: dict[str, Callable[[], dict[str, float]]] = {"counting": lambda: by_counting(images, texts, owner)}
    if not sizes.skip_sorting:
        ways["sorting"] = lambda: by_sorting(images, texts, owner)
    results, seconds = {}, {}
    for name, way in ways.items():
        results[name], seconds[name] = timed(way, sizes.repeats if name == "counting" else 1)
        print(f"{name:9s} {seconds[name]:7.2f} s {peak_megabytes(way):8.0f} MB over the inputs  {results[name]}")
    if "sorting" in results:
        worst = max(abs(results["counting"][key] - results["sorting"][key]) for key in results["counting"])
        print(f"speed-up {seconds['sorting'] / seconds['counting']:.1f}; largest difference of a recall {worst:.1e}")
        if worst > 1e-4:
            raise SystemExit("the two ways disagree")


def by_counting(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    i2t, t2i = ranks_of_embeddings(images, texts, owner)
    return {f"{name}_r@{k}": float(side.hit(k).mean()) for name, side in (("i2t", i2t), ("t2i", t2i)) for k in KS}


def by_sorting(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    scores = images @ texts.T
    i2t = (owner[np.argsort(-scores, axis=1)] == np.arange(len(images))[:, None]).argmax(axis=1)
    t2i = (np.argsort(-scores.T, axis=1) == owner[:, None]).argmax(axis=1)
    return {f"{name}_r@{k}": float((place < k).mean()) for name, place in (("i2t", i2t), ("t2i", t2i)) for k in KS}


def timed(way: Callable[[], dict[str, float]], repeats: int) -> tuple[dict[str, float], float]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = way()
        best = min(best, time.perf_counter() - start)
    return result, best


def peak_megabytes(way: Callable[[], dict[str, float]]) -> float:
    tracemalloc.start()
    way()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
