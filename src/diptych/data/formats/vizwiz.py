"""VizWiz: `{train,val,test}.json`, questions that blind people asked about their photos, some of them unanswerable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, answers_of, choose, find, gather, home
from diptych.data.formats.records import SNIFFED, BadRow, head_keys, load_json, maybe, need
from diptych.data.formats.rows import Row, Rows
from diptych.types import Question, Sample

NAME = re.compile(r"(?P<split>train|val|test)\.json", re.IGNORECASE)
FOLDERS = ("annotations",)
PICTURES = ("train", "val", "test", "images", "images/train", "images/val", "images/test", "Images", "")


def recognise(path: Path) -> bool:
    """Whether a list of questions about pictures named `VizWiz_...` is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    return any(_fits(part.file) for part in find(path, NAME, FOLDERS)[:1])


def _fits(file: Path) -> bool:
    keys = head_keys(file)
    if not {"image", "question"} <= keys or "images" in keys:
        return False
    with file.open("rb") as stream:
        return b'"VizWiz_' in stream.read(SNIFFED)


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture. Raises `InputError` where no such file is, or one cannot be read."""
    parts = _parts(path, split)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part, pictures))
    return Rows(f"VizWiz questions ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The question files and the pictures."""
    yield from (part.file for part in _parts(path, split))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, split: str | None) -> list[Part]:
    return choose(find(path, NAME, FOLDERS), split, path, "VizWiz questions (train.json, val.json, test.json)")


def _rows(part: Part, pictures: Pictures) -> Iterator[Row]:
    records = enumerate(load_json(part.file, list))
    groups, bad = gather(((f"{part.file.name}#{n}", record) for n, record in records), _question)
    yield from bad
    for name, questions in groups.items():
        yield Sample(name, [pictures.find(name)], questions=questions, split=part.split)


def _question(where: str, record: Any) -> tuple[str, Question]:
    answerable = maybe(record, "answerable", (int, bool), where)
    if answerable not in (None, 0, 1):
        raise BadRow("wrong type", f"{where}: answerable: expected 0 or 1, got {answerable}")
    question = Question(
        need(record, "question", str, where),
        answers_of(record, where),
        kind=maybe(record, "answer_type", str, where) or "",
        id=where,
        answerable=None if answerable is None else bool(answerable),
    )
    return need(record, "image", str, where), question
