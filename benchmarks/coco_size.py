"""COCO at its real size: reading the annotations of train2017 beside pycocotools, in seconds and memory.

    python benchmarks/coco_size.py [--share 1.0]

Writes a made-up `instances_train2017.json` of COCO's size (118,287 pictures, 860,001 annotations of which 10,000 are
crowds, some 450 MB; polygons of 6 to 36 points, drawn from 5,000) into a temporary folder, and reads it three times,
each in a fresh process:

- diptych: every picture as a `Sample`, its polygons as compressed masks, one after the other as an import takes them;
- pycocotools: `COCO(file)`, which parses and indexes and leaves polygons as lists;
- pycocotools with masks: the same and `annToRLE` for every annotation, which is what Diptych's figure includes.

There are no pictures: what decoding and writing them costs is not in here. Needs `pycocotools` (the dev extra).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PICTURES, ANNOTATIONS, CROWDS, CATEGORIES = 118_287, 860_001, 10_000, 80
WIDTH, HEIGHT = 640, 480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of COCO's size")
    share = parser.parse_args().share
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "annotations" / "instances_train2017.json"
        write(file, int(PICTURES * share), int(ANNOTATIONS * share), int(CROWDS * share))
        print(
            f"{int(PICTURES * share):,} pictures, {int(ANNOTATIONS * share):,} annotations, {file.stat().st_size:,} B"
        )
        ways: dict[str, Callable[[Path], tuple[int, int]]] = {
            "diptych": by_diptych,
            "pycocotools": by_pycocotools,
            "pycocotools with masks": by_pycocotools_with_masks,
        }
        found = {}
        for name, way in ways.items():
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                counts, seconds, peak, before = fresh.apply(measured, (way, file))
            found[name] = counts
            print(f"{name:23s} {seconds:6.1f} s of CPU, {peak:6,.0f} MB at most ({before:.0f} MB before), {counts}")
        if len(set(found.values())) > 1:
            sys.exit("they count differently")


def write(file: Path, pictures: int, annotations: int, crowds: int) -> None:
    """An annotation file in COCO's layout, written piece by piece."""
    rng = np.random.default_rng(0)
    shapes = [shape(rng, crowd=False) for _ in range(5000)]
    runs = [shape(rng, crowd=True) for _ in range(100)]
    file.parent.mkdir()
    with file.open("w") as out:
        out.write(
            '{"info": {"description": "made up"}, "licenses": [{"id": 1, "name": "none", "url": ""}], "images": ['
        )
        for i in range(pictures):
            name = f"{i:012d}.jpg"
            url = f"http://images.example/train2017/{name}"
            picture = {"license": 1, "file_name": name, "coco_url": url, "height": HEIGHT, "width": WIDTH, "id": i}
            out.write(
                ", " * (i > 0) + json.dumps(picture | {"date_captured": "2013-11-14 11:18:45", "flickr_url": url})
            )
        out.write('], "annotations": [')
        owners, kinds = rng.integers(0, pictures, annotations), rng.integers(1, CATEGORIES + 1, annotations)
        drawn = rng.integers(0, len(shapes), annotations)
        for i, (owner, kind, which) in enumerate(zip(owners.tolist(), kinds.tolist(), drawn.tolist())):
            body = runs[i % len(runs)] if i < crowds else shapes[which]
            out.write(f'{", " * (i > 0)}{{{body}, "image_id": {owner}, "category_id": {kind}, "id": {i + 1}}}')
        names = [{"supercategory": "thing", "id": i, "name": f"thing {i}"} for i in range(1, CATEGORIES + 1)]
        out.write(f'], "categories": {json.dumps(names)}}}')


def shape(rng: np.random.Generator, *, crowd: bool) -> str:
    """The fields of an annotation that tell where it is, as JSON without the braces: a star or runs."""
    if crowd:
        ends = np.sort(rng.choice(WIDTH * HEIGHT, 100, replace=False))
        counts = np.diff(ends, prepend=0, append=WIDTH * HEIGHT).tolist()
        fields: dict[str, object] = {"segmentation": {"counts": counts, "size": [HEIGHT, WIDTH]}, "iscrowd": 1}
        return json.dumps(fields | {"area": sum(counts[1::2]), "bbox": [0, 0, WIDTH, HEIGHT]})[1:-1]
    points, reach = int(rng.integers(6, 37)), rng.uniform(10, 150)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = reach * rng.uniform(0.6, 1, points)
    x = (rng.uniform(150, WIDTH - 150) + radius * np.cos(angle)).round(2)
    y = (rng.uniform(150, HEIGHT - 150) + radius * np.sin(angle)).round(2)
    box = [float(v) for v in (x.min(), y.min(), np.ptp(x).round(2), np.ptp(y).round(2))]
    polygon = np.stack([x, y], axis=1).reshape(-1).tolist()
    return json.dumps({"segmentation": [polygon], "iscrowd": 0, "area": box[2] * box[3] / 2, "bbox": box})[1:-1]


def measured(way: Callable[[Path], tuple[int, int]], file: Path) -> tuple[tuple[int, int], float, float, float]:
    """(pictures and annotations, seconds of CPU, peak memory in MB, that before)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    counts = way(file)
    seconds = time.process_time() - started
    return counts, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before / 1024


def by_diptych(file: Path) -> tuple[int, int]:
    from diptych.data.formats.coco import read
    from diptych.types import Sample

    pictures = annotations = 0
    for row in read(file).items:
        if isinstance(row, Sample):
            pictures += 1
            annotations += sum(thing.mask is not None for thing in row.objects)
    return pictures, annotations


def by_pycocotools(file: Path) -> tuple[int, int]:
    from pycocotools.coco import COCO

    coco = COCO(str(file))
    return len(coco.imgs), len(coco.anns)


def by_pycocotools_with_masks(file: Path) -> tuple[int, int]:
    from pycocotools.coco import COCO

    coco = COCO(str(file))
    return len(coco.imgs), sum(bool(coco.annToRLE(annotation)["counts"]) for annotation in coco.anns.values())


if __name__ == "__main__":
    main()
