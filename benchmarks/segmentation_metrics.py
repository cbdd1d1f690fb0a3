"""Pixels a second of the confusion matrix behind mIoU, against the usual ways in numpy, on the same label maps.

    python benchmarks/segmentation_metrics.py

The peers: `numpy.bincount` over truth x classes + prediction on the pixels that count (what most evaluation scripts
do), and a loop over classes with boolean masks. All give the same matrix, or IoU, which is checked. Label maps are
uint8: squares of 50 pixels, a tenth predicted wrong and all moved by three pixels, some ignored; and plain noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from diptych.evaluation.metrics.segmentation import Segments, confusion, iou_per_class, panoptic_counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048, help="pixels of a picture's side")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5, help="the fastest counts")
    sizes = parser.parse_args()
    rng = np.random.default_rng(0)
    truth, guess = areas(rng, sizes)
    compare("areas", guess, truth, sizes)
    compare("noise", *noise(rng, sizes), sizes)
    segments = Segments(truth.astype(np.int64) + 1, {i + 1: i % 20 for i in range(256)})
    _, speed_pq = timed(lambda: panoptic_counts(segments, segments, 20), truth.size, sizes.repeats)
    print(f"panoptic counts: {speed_pq:.0f} megapixels/s")


def compare(name: str, guess: np.ndarray, truth: np.ndarray, sizes: argparse.Namespace) -> None:
    table, ours = timed(lambda: confusion(guess, truth, sizes.classes), truth.size, sizes.repeats)
    counted, by_count = timed(lambda: by_bincount(guess, truth, sizes.classes), truth.size, sizes.repeats)
    iou, by_loop = timed(lambda: by_class(guess, truth, sizes.classes), truth.size, 1)
    print(f"{name}: diptych {ours:.0f}, bincount {by_count:.0f}, class loop {by_loop:.0f} megapixels/s", end="; ")
    print(f"{ours / by_count:.1f} x bincount, {ours / by_loop:.0f} x loop")
    if not np.array_equal(table, counted) or not np.array_equal(iou_per_class(table), iou, equal_nan=True):
        raise SystemExit("the ways disagree")


def areas(rng: np.random.Generator, sizes: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, sizes.classes, (sizes.side // 50, sizes.side // 50))
    place = np.minimum(np.arange(sizes.side) // 50, sizes.side // 50 - 1)
    truth = labels[place][:, place].astype(np.uint8)
    guess = np.roll(truth, 3, axis=0)
    wrong = rng.random(labels.shape)[place][:, place] < 0.1
    guess[wrong] = rng.integers(sizes.classes)
    truth[: sizes.side // 40] = 255
    return np.ascontiguousarray(truth), np.ascontiguousarray(guess)


def noise(rng: np.random.Generator, sizes: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    guess, truth = rng.integers(0, sizes.classes, (2, sizes.side, sizes.side)).astype(np.uint8)
    return guess, truth


def by_bincount(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    counts = truth != 255
    cells = truth[counts].astype(np.int64) * classes + guess[counts]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def by_class(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    counts, iou = truth != 255, np.full(classes, np.nan)
    for k in range(classes):
        true, said = (truth == k) & counts, (guess == k) & counts
        union = np.count_nonzero(true | said)
        if union:
            iou[k] = np.count_nonzero(true & said) / union
    return iou


def timed(way: Callable[[], Any], pixels: int, repeats: int) -> tuple[Any, float]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = way()
        best = min(best, time.perf_counter() - start)
    return result, pixels / best / 1e6


if __name__ == "__main__":
    main()
