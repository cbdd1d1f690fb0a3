"""COCO: boxes, masks and captions of pictures in one JSON file a kind and split (https://cocodataset.org).

    ROOT/annotations/instances_val2017.json, captions_val2017.json, ...
    ROOT/val2017/000000000139.jpg, ...        or ROOT/images/val2017/, ROOT/images/, ROOT/ itself

Instances and captions of a split become one sample a picture. An annotation that cannot be read is rejected under its
own name ("instances_val2017.json#1768") and the picture stays with the others: no box has an area, it lies outside the
picture, a polygon has two points, its picture or category does not exist. A box that only overhangs stays as written.
`iscrowd` makes an object of kind "crowd". Key points and other files of annotations are left aside.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data import masks
from diptych.data.formats.boxes import Box, corners
from diptych.data.formats.coco_tables import Id, Picture, Tables, find_files, homes, watched
from diptych.data.formats.coco_write import write
from diptych.data.formats.places import edge_keys, home_of, pictures_root, root_of
from diptych.data.formats.records import BadRow, checked, maybe, need, number, texts
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError, Mask, Object, Rejected

__all__ = ["listing", "read", "recognise", "write"]

NAMES = re.compile(r"(instances|captions)(?:_(.+))?\.json")
FOREIGN = {"segments_info", "question", "question_id", "sentences", "sentids", "region_id"}


def recognise(path: Path) -> bool:
    """A folder with annotations/instances_*.json or captions_*.json, or one JSON file with tables like theirs."""
    if path.is_dir():
        files = (file for folder in (path / "annotations", path) for file in folder.glob("*.json"))
        return any(NAMES.fullmatch(file.name) and "images" in edge_keys(file) for file in files)
    keys = edge_keys(path) if path.suffix.lower() == ".json" else frozenset()
    pictures = "file_name" in keys and ("images" in keys or "height" in keys)
    return pictures and bool({"annotations", "image_id", "categories"} & keys) and not FOREIGN & keys


def read(path: Path, *, split: str = "", images: str = "") -> Rows:
    """All pictures with their objects and captions.

    Args:
        split: only the files of this name, as in `instances_val2017.json`: "val2017".
        images: the folder that `file_name` starts from, if it is not one of the usual.

    Raises:
        InputError: no such files, or one that is cut short, no JSON, or without the tables.
    """
    root = root_of(path)
    base = pictures_root(root, images)
    parts = [_Part(name, files) for name, files in find_files(path, NAMES, split).items()]
    for part in parts:
        names = [picture.file_name for picture in part.tables.pictures.values()]
        part.home = home_of(base, [part.name, ""] if images else homes(part.name), names)
    pictures = sum(len(part.tables.pictures) for part in parts)
    known = "; ".join(f"{part.name or path.name}: {' and '.join(part.kinds)}" for part in parts)
    total = pictures + sum(len(part.tables.rejected) for part in parts)
    return Rows(f"COCO, {pictures:,} pictures ({known})", (r for part in parts for r in part.rows()), total, root=base)


def listing(path: Path, *, split: str = "", images: str = "") -> Iterator[Path]:
    """The annotation files and the files beside them that may be pictures."""
    found = find_files(path, NAMES, split)
    return watched(path, (file for files in found.values() for file in files.values()), found, images)


class _Part:
    """One split: its tables, and which objects and captions belong to which picture."""

    def __init__(self, name: str, files: dict[str, Path]) -> None:
        self.name = name
        self.home = ""
        self.kinds: list[str] = []
        self.tables = Tables(name)
        self._of: defaultdict[Id, list[tuple[str, Any]]] = defaultdict(list)
        objects = captions = 0
        for file in files.values():
            for picture, own, record in self.tables.load(file):
                self._of[picture].append((own, record))
                captions += "caption" in record
                objects += "caption" not in record
        self.kinds = [f"{n:,} {kind}" for n, kind in ((objects, "objects"), (captions, "captions")) if n]

    def rows(self) -> Iterator[Row]:
        yield from self.tables.rejected
        for picture in self.tables.pictures.values():
            sample = self.tables.sample(picture, self.home)
            for name, record in self._of.pop(picture.id, ()):
                try:
                    if "caption" in record:
                        sample.captions.append(_caption(record, name))
                    else:
                        sample.objects.append(_object(record, self.tables, picture, name))
                except BadRow as error:
                    yield Rejected(name, error.reason, error.detail)
            yield sample


def _caption(record: Any, where: str) -> str:
    caption = str(need(record, "caption", str, where)).strip()
    if not caption:
        raise BadRow("caption empty", where)
    return caption


def _object(record: Any, tables: Tables, picture: Picture, where: str) -> Object:
    name, kind = tables.category(record, where)
    crowd = maybe(record, "iscrowd", (int, bool), where)
    mask = _mask(record.get("segmentation"), picture, where)
    box = _box(record.get("bbox"), picture, where)
    if box is None and mask is None:
        raise BadRow("field missing", f"{where}: bbox")
    return Object(
        name,
        masks.box(mask) if box is None and mask is not None else box,
        mask,
        _attributes(record.get("attributes"), where),
        str(maybe(record, "id", (int, str), where) or ""),
        "crowd" if crowd else kind,
    )


def _box(value: Any, picture: Picture, where: str) -> Box | None:
    """From x, y, width and height."""
    if value is None or value == []:
        return None
    numbers = [number(v, f"{where}: bbox") for v in checked(value, list, f"{where}: bbox")]
    if len(numbers) != 4:
        raise BadRow("wrong type", f"{where}: bbox: expected 4 numbers, got {len(numbers)}")
    x, y, width, height = numbers
    return corners(x, y, width, height, (picture.width, picture.height), f"{where}: bbox")


def _mask(value: Any, picture: Picture, where: str) -> Mask | None:
    if value is None or value == []:
        return None
    if not picture.height or not picture.width:
        raise BadRow("field missing", f"{where}: its picture has no height and width, which a mask needs")
    try:
        return masks.from_coco(value, picture.height, picture.width)
    except InputError as error:
        raise BadRow("mask broken", f"{where}: {error}") from None


def _attributes(value: Any, where: str) -> list[str]:
    """A list of texts, as our writer has it, or CVAT's object of names and values."""
    if isinstance(value, dict):
        return [f"{name}: {one}" for name, one in value.items() if isinstance(one, str | int | float)]
    return texts(value, f"{where}: attributes") if value is not None else []
