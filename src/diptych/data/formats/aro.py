"""ARO: a picture, a true caption, and the same words put together wrongly.

`visual_genome_attribution.json` ("the white dog and the black cat" or the reverse), `visual_genome_relation.json`, and
order tests as JSON with `caption_options`, of which the first is true (ARO itself makes them from COCO and Flickr30k
by shuffling words). Its code shows a model only the box of each item, which is kept as a region.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.records import BadRow, checked, head_keys, load_json, maybe, need, number, rows_of, texts
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError, Negative, Region, Sample

NAME = re.compile(r"visual_genome_(attribution|relation)\.json|(coco|flickr30k)_order(_\w+)?\.json", re.IGNORECASE)
FOLDERS = ("data", "annotations")
PICTURES = ("images", "", "val2014", "flickr30k-images")
SUBSETS = ("attribution", "relation", "order")
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


def recognise(path: Path) -> bool:
    """Whether one of the tests is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    return any(_fits(head_keys(part.file)) for part in find(path, NAME, FOLDERS)[:1])


def _fits(keys: frozenset[str]) -> bool:
    return {"image_path", "true_caption", "false_caption"} <= keys or "caption_options" in keys


def read(path: Path, *, subset: str | None = None, images: str | None = None) -> Rows:
    """One sample for each item. Raises `InputError` where no such file is, or one cannot be read.

    Args:
        path: the folder of the tests, or one of them.
        subset: only "attribution", "relation" or "order".
        images: another folder for the pictures.
    """
    parts = _parts(path, subset)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part.file, pictures))
    return Rows(f"ARO ({', '.join(part.file.name for part in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, subset: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The tests and the pictures."""
    yield from (part.file for part in _parts(path, subset))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, subset: str | None) -> list[Part]:
    if subset is not None and subset not in SUBSETS:
        raise InputError(f"{path}: option 'subset': expected {', '.join(SUBSETS)}, got '{subset}'")
    parts = find(path, NAME, FOLDERS)
    if subset is not None and path.is_dir():
        parts = [part for part in parts if f"_{subset}" in part.file.stem.lower()]
    return choose(parts, None, path, f"ARO's tests (visual_genome_{subset or 'relation'}.json)")


def _rows(file: Path, pictures: Pictures) -> Iterator[Row]:
    def make(where: str, record: Any) -> Sample:
        name = maybe(record, "image_path", str, where) or need(record, "image", str, where)
        sample = _options(record, where) if "caption_options" in record else _pair(record, where)
        sample.images, sample.split = [pictures.find(name, Path(name).name)], "test"
        return sample

    return rows_of(((f"{file.stem}/{n}", record) for n, record in enumerate(load_json(file, list))), make)


def _options(record: Any, where: str) -> Sample:
    options = texts(record["caption_options"], f"{where}: caption_options")
    if not options:
        raise BadRow("caption empty", f"{where}: caption_options")
    return Sample(where, captions=options[:1], negatives=[Negative(text, "order") for text in options[1:]])


def _pair(record: Any, where: str) -> Sample:
    caption = need(record, "true_caption", str, where)
    relation = maybe(record, "relation_name", str, where)
    attributes = texts(maybe(record, "attributes", list, where) or [], f"{where}: attributes")
    kind = "relation" if relation is not None else "attribution"
    sides = [maybe(record, name, (int, float), where) for name in BOX]
    regions = []
    if None not in sides:
        x, y, w, h = (number(checked(side, (int, float), where), where) for side in sides)
        regions = [Region(caption, (x, y, x + w, y + h))]
    return Sample(
        where,
        captions=[caption],
        label=relation or "_".join(attributes) or None,  # what ARO averages over
        regions=regions,
        negatives=[Negative(need(record, "false_caption", str, where), kind)],
    )
