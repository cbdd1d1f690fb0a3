"""CLEVR and CLEVR-CoGenT: `scenes/CLEVR_train_scenes.json`, `questions/CLEVR_train_questions.json`, `images/train`.

Either folder may be absent (the test split has no scenes). A question's kind is the last function of its program:
"count", "exist", "query_color", "equal_size", "equal_integer", "less_than", ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, gather, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import BadRow, checked, head_keys, maybe, need
from diptych.data.formats.rows import Row, Rows
from diptych.types import Object, Question, Rejected, Relation, Sample

QUESTIONS = re.compile(r"CLEVR_(?P<split>\w+)_questions\.json", re.IGNORECASE)
SCENES = re.compile(r"CLEVR_(?P<split>\w+)_scenes\.json", re.IGNORECASE)
FOLDERS = ("questions", "scenes")
ATTRIBUTES = ("size", "color", "material")


def recognise(path: Path) -> bool:
    """Whether a file of CLEVR's questions or scenes is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    for part in (*find(path, QUESTIONS, FOLDERS)[:1], *find(path, SCENES, FOLDERS)[:1]):
        keys = head_keys(part.file)
        if {"questions", "image_filename"} <= keys or {"scenes", "image_filename"} <= keys:
            return True
    return False


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture. Raises `InputError` where no such file is, or one cannot be read."""
    splits = _splits(path, split)
    names = {part.split or "" for parts in splits for part in parts if part is not None}
    folders = [folder for name in sorted(names) for folder in (f"images/{_raw(name)}", f"images/{name}")]
    pictures = Pictures(home(path, FOLDERS), list(dict.fromkeys((*folders, "images", ""))), images)
    items = (row for questions, scenes in splits for row in _rows(questions, scenes, pictures))
    files = ", ".join(part.file.name for parts in splits for part in parts if part is not None)
    return Rows(f"CLEVR ({files})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The files of questions and scenes, and the pictures."""
    for parts in _splits(path, split):
        yield from (part.file for part in parts if part is not None)
    yield from Pictures(home(path, FOLDERS), ["images", ""], images).files()


def _raw(split: str) -> str:
    return "val" if split == "validation" else split


def _splits(path: Path, split: str | None) -> list[tuple[Part | None, Part | None]]:
    """(questions, scenes) of each split."""
    asked, seen = find(path, QUESTIONS, FOLDERS), find(path, SCENES, FOLDERS)
    if path.is_file():  # one file says by its contents what it is
        asked, seen = ([], seen) if "scenes" in head_keys(path) else (asked, [])
    chosen = choose(asked + seen, split, path, "CLEVR's questions/CLEVR_*_questions.json or scenes/CLEVR_*_scenes.json")
    questions = {part.split: part for part in asked}
    scenes = {part.split: part for part in seen}
    return [(questions.get(name), scenes.get(name)) for name in dict.fromkeys(part.split for part in chosen)]


def _rows(asked: Part | None, seen: Part | None, pictures: Pictures) -> Iterator[Row]:
    groups: dict[str, list[Question]] = {}
    if asked is not None:
        records = (record for name, record in stream_members(asked.file, "questions") if name == "questions")
        numbered = ((f"{asked.file.name}#{n}", record) for n, record in enumerate(records))
        groups, bad = gather(numbered, _question)
        yield from bad
    if seen is not None:
        scenes = (record for name, record in stream_members(seen.file, "scenes") if name == "scenes")
        for n, scene in enumerate(scenes):
            where = f"{seen.file.name}#{n}"
            try:
                name = need(scene, "image_filename", str, where)
                sample = _scene(scene, where)
            except BadRow as error:  # its questions stay, and so does its picture, if it has any
                yield Rejected(where, error.reason, error.detail)
                continue
            sample.id, sample.images, sample.split = Path(name).stem, [pictures.find(name)], seen.split
            sample.questions = groups.pop(name, [])
            yield sample
    for name, questions in groups.items():
        split = None if asked is None else asked.split
        yield Sample(Path(name).stem, [pictures.find(name)], questions=questions, split=split)


def _scene(scene: Any, where: str) -> Sample:
    """Things, and the relations between them: `relationships[name][i]` lists what stands there as seen from thing i."""
    objects: list[Object] = []
    for thing in need(scene, "objects", list, where):
        attributes = [need(thing, name, str, where) for name in ATTRIBUTES if maybe(thing, name, str, where)]
        objects.append(Object(need(thing, "shape", str, where), attributes=attributes, id=str(len(objects))))
    relations = []
    for name, rows in (maybe(scene, "relationships", dict, where) or {}).items():
        for thing, others in enumerate(checked(rows, list, f"{where}: {name}")):
            for other in checked(others, list, f"{where}: {name}"):
                if not 0 <= checked(other, int, f"{where}: {name}") < len(objects) or thing >= len(objects):
                    raise BadRow("dangling id", f"{where}: {name}: no object {max(other, thing)}")
                relations.append(Relation(other, name, thing))
    text = json.dumps(scene, ensure_ascii=False, separators=(",", ":"))
    return Sample("", objects=objects, relations=relations, texts={"scene": text})


def _question(where: str, record: Any) -> tuple[str, Question]:
    name = need(record, "image_filename", str, where)
    answer = maybe(record, "answer", (str, int, bool), where)
    program = maybe(record, "program", list, where) or []
    kind = ""
    if program:
        last = program[-1]
        kind = maybe(last, "function", str, where) or need(last, "type", str, where)
    number = maybe(record, "question_index", int, where)
    question = Question(
        need(record, "question", str, where),
        [] if answer is None else [_text(answer)],
        kind=kind,
        id="" if number is None else str(number),
        program=json.dumps(program, ensure_ascii=False, separators=(",", ":")) if program else "",
    )
    return name, question


def _text(answer: str | int | bool) -> str:
    return ("no", "yes")[answer] if isinstance(answer, bool) else str(answer)
