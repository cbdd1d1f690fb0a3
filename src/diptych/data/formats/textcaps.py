"""TextCaps: `TextCaps_0.1_{train,val,test}.json`, captions that need reading, over the pictures of TextVQA.

The file has a row for each caption; here they are one sample for each picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, gather, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import BadRow, head_keys, maybe, need, texts
from diptych.data.formats.rows import Row, Rows
from diptych.types import Sample

NAME = re.compile(r"TextCaps_[\d.]+_(?P<split>train|val|test)\.json", re.IGNORECASE)
FOLDERS = ("annotations", "textcaps")
PICTURES = ("train_images", "test_images", "images", "train_val_images/train_images", "images/train_images")


def recognise(path: Path) -> bool:
    """Whether a file of that name is there, or the file given has its fields."""
    parts = find(path, NAME, FOLDERS)
    return any({"data", "image_id"} <= (keys := head_keys(p.file)) and _own(keys) for p in parts[:1])


def _own(keys: frozenset[str]) -> bool:
    return "caption_str" in keys or ("question" not in keys and "dataset_name" in keys and "set_name" in keys)


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture. Raises `InputError` where no such file is, or one cannot be read."""
    parts = _parts(path, split)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part, pictures))
    return Rows(f"TextCaps ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The annotation files and the pictures."""
    yield from (part.file for part in _parts(path, split))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, split: str | None) -> list[Part]:
    return choose(find(path, NAME, FOLDERS), split, path, "TextCaps files (TextCaps_0.1_train.json)")


def _rows(part: Part, pictures: Pictures) -> Iterator[Row]:
    records = (record for name, record in stream_members(part.file, "data") if name == "data")
    groups, bad = gather(((f"{part.file.name}#{n}", record) for n, record in enumerate(records)), _caption)
    yield from bad
    for id, rows in groups.items():
        captions = list(dict.fromkeys(caption for row in rows for caption in row.captions))
        yield replace(rows[0], images=[pictures.find(f"{id}.jpg", id)], captions=captions, split=part.split)


def _caption(where: str, record: Any) -> tuple[str, Sample]:
    """(the picture's id, a sample that still lacks the picture and the captions of other rows)."""
    id = need(record, "image_id", str, where)
    caption = maybe(record, "caption_str", str, where)
    if caption is not None and not caption.strip():
        raise BadRow("caption empty", where)
    own = [] if caption is None else [caption]  # a test file has none
    others = texts(record.get("reference_strs") or [], f"{where}: reference_strs")
    classes = texts(record.get("image_classes") or [], f"{where}: image_classes")
    captions = [found for text in (*own, *others) if (found := text.strip())]
    return id, Sample(id, captions=captions, tags=classes, url=url_of(record, where))


def url_of(record: Any, where: str) -> str | None:
    """Where the picture of a TextVQA or TextCaps record came from."""
    url: str | None = maybe(record, "flickr_original_url", str, where) or maybe(record, "flickr_300k_url", str, where)
    return url
