"""SugarCrepe: `{add,replace,swap}_{att,obj,rel}.json`, COCO pictures with a caption and a fluent wrong one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.records import head_keys, load_json, need, rows_of
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError, Negative, Sample

NAME = re.compile(r"(add|replace|swap)_(att|obj|rel)\.json", re.IGNORECASE)
FOLDERS = ("data",)
PICTURES = ("val2017", "images/val2017", "images", "coco/val2017", "")


def recognise(path: Path) -> bool:
    """Whether one of the tests is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    return any({"filename", "negative_caption"} <= head_keys(part.file) for part in find(path, NAME, FOLDERS)[:1])


def read(path: Path, *, subset: str | None = None, images: str | None = None) -> Rows:
    """One sample for each item. Raises `InputError` where no such file is, or one cannot be read.

    Args:
        path: the folder of the tests, or one of them.
        subset: only the test of this name, as "swap_att".
        images: another folder for the pictures.
    """
    parts = _parts(path, subset)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part.file, pictures))
    return Rows(f"SugarCrepe ({', '.join(p.file.stem for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, subset: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The tests and the pictures."""
    yield from (part.file for part in _parts(path, subset))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, subset: str | None) -> list[Part]:
    parts = choose(find(path, NAME, FOLDERS), None, path, "SugarCrepe's tests (swap_att.json, ...)")
    chosen = [part for part in parts if subset is None or part.file.stem == subset]
    if not chosen:
        known = ", ".join(part.file.stem for part in parts)
        raise InputError(f"{path}: option 'subset': no test '{subset}'; it has {known}")
    return chosen


def _rows(file: Path, pictures: Pictures) -> Iterator[Row]:
    def make(id: str, record: Any) -> Sample:
        return Sample(
            id,
            [pictures.find(need(record, "filename", str, id))],
            [need(record, "caption", str, id)],
            negatives=[Negative(need(record, "negative_caption", str, id), file.stem)],
            split="test",
        )

    return rows_of(((f"{file.stem}/{number}", record) for number, record in load_json(file).items()), make)
