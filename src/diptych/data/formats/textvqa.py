"""TextVQA: `TextVQA_0.5.1_{train,val,test}.json`, questions that need reading, over pictures of Open Images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, gather, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import head_keys, need, texts
from diptych.data.formats.rows import Row, Rows
from diptych.data.formats.textcaps import PICTURES, url_of
from diptych.types import Question, Sample

NAME = re.compile(r"TextVQA_[\d.]+_(?P<split>train|val|test)\.json", re.IGNORECASE)
FOLDERS = ("annotations", "textvqa")


def recognise(path: Path) -> bool:
    """Whether a file of that name is there, or the file given has its fields."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    for part in find(path, NAME, FOLDERS)[:1]:
        keys = head_keys(part.file)
        return {"data", "question", "image_id"} <= keys and bool(keys & {"set_name", "image_classes"})
    return False


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture. Raises `InputError` where no such file is, or one cannot be read."""
    parts = _parts(path, split)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part, pictures))
    return Rows(f"TextVQA ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The question files and the pictures."""
    yield from (part.file for part in _parts(path, split))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, split: str | None) -> list[Part]:
    """One file a split, of the newest version where several lie side by side."""
    parts = choose(find(path, NAME, FOLDERS), split, path, "TextVQA questions (TextVQA_0.5.1_train.json)")
    newest = {part.split: part for part in sorted(parts, key=lambda part: part.file.name)}
    return list(newest.values())


def _rows(part: Part, pictures: Pictures) -> Iterator[Row]:
    records = (record for name, record in stream_members(part.file, "data") if name == "data")
    groups, bad = gather(((f"{part.file.name}#{n}", record) for n, record in enumerate(records)), _question)
    yield from bad
    for id, rows in groups.items():
        questions = [question for row in rows for question in row.questions]
        yield replace(rows[0], images=[pictures.find(f"{id}.jpg", id)], questions=questions, split=part.split)


def _question(where: str, record: Any) -> tuple[str, Sample]:
    """(the picture's id, a sample that still lacks the picture and its other questions)."""
    id = need(record, "image_id", str, where)
    question = Question(
        need(record, "question", str, where),
        texts(record.get("answers") or [], f"{where}: answers"),  # a test file has none
        id=str(need(record, "question_id", (int, str), where)),
    )
    classes = texts(record.get("image_classes") or [], f"{where}: image_classes")
    return id, Sample(id, questions=[question], tags=classes, url=url_of(record, where))
