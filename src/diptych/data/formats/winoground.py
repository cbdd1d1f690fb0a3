"""Winoground: two pictures and two captions of the same words; each caption fits one picture only.

`examples.jsonl` (or `.json`) with `images/<name>.png`, or Parquet that holds the pictures. One item becomes two samples
of one group, "7/0" and "7/1", each with the other's caption as its negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from diptych.data.formats import parquet
from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.records import SNIFFED, BadRow, checked, head_keys, load_json, maybe, need, number
from diptych.data.formats.rows import Row, Rows, decode_text
from diptych.data.formats.table import json_lines
from diptych.types import EncodedImage, InputError, Negative, Rejected, Sample

NAME = re.compile(r"(examples|winoground)\.jsonl?|[\w.-]+\.parquet", re.IGNORECASE)
FOLDERS = ("data",)
PICTURES = ("images", "data/images", "")
KEYS = {"image_0", "image_1", "caption_0", "caption_1"}
TAGS = ("tag", "secondary_tag", "collapsed_tag")


def recognise(path: Path) -> bool:
    """Whether a file of items is there."""
    files = [part.file for part in find(path, NAME, FOLDERS)]
    listed = [file for file in files if file.suffix.lower() not in parquet.SUFFIXES]
    return any(_fits(file) for file in (*listed, *[file for file in files if file not in listed][:1]))


def _fits(file: Path) -> bool:
    if file.suffix.lower() in (".json", ".jsonl"):
        return head_keys(file) >= KEYS
    if file.suffix.lower() not in parquet.SUFFIXES:
        return False
    try:
        return set(pq.read_schema(file).names) >= KEYS
    except Exception:  # damaged, or no Parquet at all
        return False


def read(path: Path, *, images: str | None = None) -> Rows:
    """Two samples for each item. Raises `InputError` where no such file is, or one cannot be read."""
    parts = _parts(path)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for where, record in _records(part.file) for row in _item(where, record, pictures))
    return Rows(f"Winoground ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, images: str | None = None) -> Iterator[Path]:
    """The items and the pictures."""
    yield from (part.file for part in _parts(path))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path) -> list[Part]:
    parts = [part for part in find(path, NAME, FOLDERS) if part.file == path or _fits(part.file)]
    return choose(parts, None, path, "Winoground's items (examples.jsonl, or Parquet with image_0 and caption_0)")


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix.lower() in parquet.SUFFIXES:
        try:
            batches = pq.ParquetFile(file).iter_batches(parquet.BATCH_ROWS)
            rows = [row for batch in batches for row in parquet.plain_rows(batch)]  # 400 items
        except Exception as error:
            raise InputError(f"{file}: cannot be read as Parquet: {error}") from None
        yield from ((f"{file.name}#{n}", row) for n, row in enumerate(rows))
        return
    with file.open("rb") as stream:
        is_list = stream.read(SNIFFED).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if is_list:
        yield from ((f"{file.name}#{n}", record) for n, record in enumerate(load_json(file, list)))
        return
    try:
        yield from json_lines(decode_text(file.read_bytes()), file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text: {error}") from None


def _item(where: str, record: Any, pictures: Pictures) -> Iterator[Row]:
    if isinstance(record, Rejected):
        yield record
        return
    try:
        id = str(need(record, "id", (int, str), where))
        captions = [need(record, f"caption_{side}", str, where) for side in (0, 1)]
        tags = [tag for name in TAGS if (tag := maybe(record, name, str, where))]
        predicates = maybe(record, "num_main_preds", (int, float), where)
        scores = {} if predicates is None else {"num_main_preds": number(predicates, where)}
        images = [_image(record, f"image_{side}", where, pictures) for side in (0, 1)]
    except BadRow as error:
        yield Rejected(where, error.reason, error.detail)
        return
    for side in (0, 1):
        yield Sample(
            f"{id}/{side}",
            [images[side]],
            [captions[side]],
            tags=tags,
            negatives=[Negative(captions[1 - side], maybe(record, "tag", str, where) or "")],
            split="test",
            group=id,
            scores=dict(scores),
        )


def _image(record: Any, field: str, where: str, pictures: Pictures) -> EncodedImage:
    held = need(record, field, (str, dict, bytes), where)
    if isinstance(held, bytes):
        return EncodedImage(held)
    if isinstance(held, dict):
        data, path = held.get("bytes"), held.get("path")
        if data is not None:
            return EncodedImage(checked(data, bytes, f"{where}: {field}"), path)
        held = need(held, "path", str, where)
    return pictures.find(f"{held}.png", held, f"{held}.jpg")
