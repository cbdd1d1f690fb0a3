"""How well pictures of the generated world are read back: `python benchmarks/scenes_parser.py --scenes 1000`.

Draws scenes, reads each with `parse` and compares with what was drawn: accuracy of each attribute of the things that
were found, things missed and invented, pictures without any error, and processor time of a picture. `--spoil` does to
the pictures what generators and files do: jpeg (quality 60), blur (radius 0.7 pixels) or noise (5 grey levels).
"""

from __future__ import annotations

import argparse
import io
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import binomtest

from diptych.data.scenes.agreement import Agreement, agreement
from diptych.data.scenes.dials import Dials, dials_of
from diptych.data.scenes.parser import parse
from diptych.data.scenes.render import render
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.world import ATTRIBUTES


def spoil(image: np.ndarray[Any, Any], how: str, seed: int) -> np.ndarray[Any, Any]:
    """The picture as a bad one."""
    if how == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=60)
        return np.asarray(Image.open(buffer))
    if how == "blur":
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.7)))
    if how == "noise":
        noise = np.random.default_rng(seed).normal(0, 5, image.shape)
        return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
    return image


def interval(wrong: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Clopper and Pearson."""
    found = binomtest(wrong, of).proportion_ci(0.95, "exact")
    return found.low, found.high


def judge(index: int, dials: Dials, how: str) -> tuple[Agreement, float]:
    """(agreement of scene `index`, processor seconds of reading it)."""
    scene = sample_scene(dials, index)
    image = spoil(render(scene, dials.size).image, how, index)
    began = time.process_time()
    seen = parse(image, scene.style)
    took = time.process_time() - began
    return agreement(seen, scene, dials.size), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="index of the first of them")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--style", default="photo")
    parser.add_argument("--objects", default="3-6")
    parser.add_argument("--spoil", choices=("", "jpeg", "blur", "noise"), default="")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    chosen = {
        "n": options.first + options.scenes,
        **{name: getattr(options, name) for name in ("size", "seed", "style", "objects")},
    }
    dials = dials_of({name: str(value) for name, value in chosen.items()})
    total, seconds = Agreement(), []
    with ProcessPoolExecutor(options.workers) as pool:
        for one, took in pool.map(
            partial(judge, dials=dials, how=options.spoil), range(options.first, options.first + options.scenes)
        ):
            total += one
            seconds.append(took)
    print(f"{total.pictures} pictures of {dials.size} px, {dials.style} {options.spoil}, {total.things} things")
    rows = [(name, total.found - right, total.found) for name, right in zip(ATTRIBUTES, total.right)]
    for name, wrong, of in [*rows, ("missed", total.missed, total.things), ("invented", total.invented, total.things)]:
        low, high = interval(wrong, of)
        share = f"{1 - wrong / of:7.2%} right" if name in ATTRIBUTES else f"{wrong / of:7.2%}"
        print(f"{name:26}{share:14}{wrong:4} of {of}; 95 % interval of errors {low:.2%} to {high:.2%}")
    print(f"{'pictures without error':26}{total.perfect / total.pictures:8.2%}")
    print(f"{'seconds a picture':26}{np.median(seconds):8.2f} (median, processor time)")


if __name__ == "__main__":
    main()
