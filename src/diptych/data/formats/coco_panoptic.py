"""COCO panoptic: each pixel of a picture belongs to one segment, a thing or stuff (https://cocodataset.org).

    ROOT/annotations/panoptic_val2017.json
    ROOT/annotations/panoptic_val2017/000000000139.png      or ROOT/panoptic_val2017/
    ROOT/val2017/000000000139.jpg                           or ROOT/images/val2017/, ROOT/images/, ROOT/ itself

A pixel (R, G, B) belongs to segment R + 256 G + 65536 B; 0 belongs to none. Segments become objects with masks, of kind
"thing", "stuff" or "crowd". A segment that only the JSON knows is rejected under its own name
("panoptic_val2017.json#000000000139.png/8345"), those that only the PNG knows together under the name of the PNG, and
the picture stays with the others. A picture whose PNG cannot be read is rejected: nothing is left of its labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import masks
from diptych.data.formats.coco_tables import Id, Picture, Tables, find_files, homes, watched
from diptych.data.formats.places import below, edge_keys, home_of, pictures_root, root_of
from diptych.data.formats.records import BadRow, checked, maybe, need
from diptych.data.formats.rows import Row, Rows
from diptych.images import BadImage, open_header, read_bytes
from diptych.types import InputError, Object, Rejected, Sample

NAMES = re.compile(r"(panoptic)(?:_(.+))?\.json")
MAX_PIXELS = 100_000_000


def recognise(path: Path) -> bool:
    """A folder with annotations/panoptic_*.json, or one such JSON file."""
    if path.is_dir():
        files = (file for folder in (path / "annotations", path) for file in folder.glob("panoptic*.json"))
        return any(NAMES.fullmatch(file.name) and "images" in edge_keys(file) for file in files)
    return path.suffix.lower() == ".json" and {"segments_info", "file_name"} <= edge_keys(path)


def read(path: Path, *, split: str = "", images: str = "", segments: str = "") -> Rows:
    """All pictures with their segments as objects.

    Args:
        split: only the files of this name, as in `panoptic_val2017.json`: "val2017".
        images: the folder that a picture's `file_name` starts from, if it is not one of the usual.
        segments: the folder of the PNG files, if it is not the one named like the JSON file.

    Raises:
        InputError: no such files, or one that is cut short, no JSON, or without the tables.
    """
    root = root_of(path)
    base = pictures_root(root, images)
    rows: list[Iterator[Row]] = []
    pictures = 0
    for name, files in find_files(path, NAMES, split).items():
        file = files["panoptic"] if "panoptic" in files else next(iter(files.values()))
        tables = Tables(name)
        annotations: dict[Id, list[tuple[str, Any]]] = {}
        for of, where, record in tables.load(file):
            annotations.setdefault(of, []).append((where, record))
        names = [picture.file_name for picture in tables.pictures.values()]
        home = home_of(base, [name, ""] if images else homes(name), names)
        rows.append(_rows(tables, annotations, home, _png_folder(root, file, segments), file.name))
        pictures += len(names)
    return Rows(f"COCO panoptic, {pictures:,} pictures", (r for part in rows for r in part), pictures, root=base)


def listing(path: Path, *, split: str = "", images: str = "", segments: str = "") -> Iterator[Path]:
    """The JSON files, the PNG files, and the files beside them that may be pictures."""
    found = find_files(path, NAMES, split)
    files = [file for kinds in found.values() for file in kinds.values()]
    yield from watched(path, files, found, images)
    yield from below(_png_folder(root_of(path), file, segments) for file in files)


def _png_folder(root: Path, file: Path, segments: str) -> Path:
    if segments:
        return root / Path(segments).expanduser()
    return next((f for f in (file.with_suffix(""), root / file.stem) if f.is_dir()), file.with_suffix(""))


def _rows(
    tables: Tables, annotations: dict[Id, list[tuple[str, Any]]], home: str, pngs: Path, file: str
) -> Iterator[Row]:
    yield from tables.rejected
    for picture in tables.pictures.values():
        sample = tables.sample(picture, home)
        try:
            found = annotations.pop(picture.id, [])
            if len(found) > 1:
                raise BadRow("id not unique", f"{file}: {len(found)} annotations of picture {picture.id}")
            bad = _add_segments(sample, found[0][1], tables, picture, pngs, file) if found else []
        except BadRow as error:
            yield Rejected(sample.id, error.reason, error.detail)
            continue
        yield from bad
        yield sample


def _add_segments(
    sample: Sample, record: Any, tables: Tables, picture: Picture, pngs: Path, file: str
) -> list[Rejected]:
    """Give the sample its objects, and say which segments are none."""
    where = f"{file}: annotation of picture {picture.id}"
    name = need(record, "file_name", str, where)
    infos = need(record, "segments_info", list, where)
    pixels = _segments(pngs, name, picture)
    left = {int(id) for id in np.unique(pixels)} - {0}
    bad = []
    for i, info in enumerate(infos):
        own = f"{file}#{name}/{info['id'] if isinstance(info, dict) and 'id' in info else f'[{i}]'}"
        try:
            id = need(info, "id", int, own)
            if id not in left:
                raise BadRow("dangling id", f"{own}: no pixel of {name} belongs to this segment")
            left.remove(id)
            mask = masks.encode(pixels == id)
            category, kind = tables.category(info, own)
            crowd = maybe(info, "iscrowd", (int, bool), own)
            sample.objects.append(Object(category, masks.box(mask), mask, id=str(id), kind="crowd" if crowd else kind))
        except BadRow as error:
            bad.append(Rejected(own, error.reason, error.detail))
    if left:  # one row for all: in a picture that is no map of segments there are thousands
        some = ", ".join(map(str, sorted(left)[:5]))
        bad.append(Rejected(f"{file}#{name}", "dangling id", f"{name}: {len(left):,} segments not in {file}: {some}"))
    return bad


def _segments(folder: Path, name: str, picture: Picture) -> np.ndarray[Any, Any]:
    """The segment of each pixel, H x W. Raises `BadRow`."""
    path = folder / checked(name, str, name)
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadRow("path outside the folder", f"{name} leaves {folder}")
        image = open_header(read_bytes(path), ["PNG"])
        if image.width * image.height > MAX_PIXELS:
            raise BadRow("mask broken", f"{path}: {image.width} x {image.height} pixels")
        if (picture.height, picture.width) not in ((None, None), (image.height, image.width)):
            raise BadRow("mask broken", f"{path}: {image.size}, but the JSON says {(picture.width, picture.height)}")
        colours = np.asarray(image.convert("RGB")).astype(np.int32)
    except BadImage as error:
        raise BadRow(error.reason.replace("image", "mask"), error.detail) from None
    except (BadRow, InputError):
        raise
    except Exception as error:  # on damaged bytes Pillow raises nearly anything
        raise BadRow("mask broken", f"{path}: {type(error).__name__}: {error}") from None
    found: np.ndarray[Any, Any] = colours @ np.array([1, 256, 65536], np.int32)
    return found
