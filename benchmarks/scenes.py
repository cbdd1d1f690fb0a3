"""How fast the generated world is made: whole samples with all labels, and its parts.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py [--size 96] [--samples 512] [--repeats 3]

Processor time of one thread and not time on the clock, so that a busy neighbour costs little; the best of the repeats.
The last column is the share of the whole sample. There is no peer to compare with: CLEVR's own generator renders with
Blender.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.render import render_many
from diptych.data.scenes.sample import encode, objects_of
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.store import scenes

BATCH = 64  # samples read at a time, as a dataset that is walked through does


def best(work: Callable[[], object], repeats: int) -> float:
    """The least processor time of the repeats, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--style", default="photo")
    parser.add_argument("--objects", default="3-6")
    options = parser.parse_args()
    n = options.samples
    dials = dials_of({"n": str(n), "size": str(options.size), "style": options.style, "objects": options.objects})
    dataset = scenes(dials)
    made = [sample_scene(dials, i) for i in range(n)]
    drawn = render_many(made, dials.size)
    parts: dict[str, Callable[[], object]] = {
        "whole sample": lambda: [dataset.take(range(at, min(at + BATCH, n))) for at in range(0, n, BATCH)],
        "lots (scene)": lambda: [sample_scene(dials, i) for i in range(n)],
        "picture": lambda: [render_many(made[at : at + BATCH], dials.size) for at in range(0, n, BATCH)],
        "masks, boxes, depth": lambda: [objects_of(scene, one) for scene, one in zip(made, drawn)],
        "encoding": lambda: [encode(one.image) for one in drawn],
        "language": lambda: [describe(scene, dials, i) for i, scene in enumerate(made)],
    }
    whole = 0.0
    print(f"{n} samples of {options.size} px, {options.objects} things, {options.style}; per core")
    print(f"{'':22}{'images/s':>9} {'ms each':>9} {'share':>7}")
    for name, work in parts.items():
        seconds = best(work, options.repeats)
        whole = whole or seconds
        print(f"{name:22}{n / seconds:9,.0f} {1000 * seconds / n:9.2f} {seconds / whole:7.0%}", flush=True)


if __name__ == "__main__":
    main()
