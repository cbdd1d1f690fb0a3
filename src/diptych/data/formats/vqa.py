"""VQA v1 and v2, and what has their layout (abstract scenes, OK-VQA): question files, annotation files, COCO pictures.

`v2_OpenEnded_mscoco_train2014_questions.json` goes with `v2_mscoco_train2014_annotations.json`, and v1's
`MultipleChoice_mscoco_...` with the annotations of the same split; its choices are added to the open-ended questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.formats.annotated import Part, Pictures, answers_of, choose, find, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import BadRow, head_keys, maybe, need, texts
from diptych.data.formats.rows import Row, Rows
from diptych.data.formats.vqa_write import write
from diptych.types import InputError, Question, Rejected, Sample

__all__ = ["listing", "read", "recognise", "write"]

NAME = re.compile(
    r"(?P<version>v\d_)?(?P<task>OpenEnded|MultipleChoice)_(?P<data>\w+)_(?P<split>[a-z-]+\d{4})_questions\.json",
    re.IGNORECASE,
)
FOLDERS = ("annotations", "questions")
PICTURES = (
    *("train2014", "val2014", "test2015", "images/train2014", "images/val2014", "images/test2015", "images"),
    *("train2017", "val2017", "test2017", ""),
)


class Answers(NamedTuple):
    """What the annotation file says of a question: its answers, and its two types."""

    answers: list[str]
    answer_type: str
    question_type: str


def recognise(path: Path) -> bool:
    """Whether a file of questions about COCO is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    for part in find(path, NAME, FOLDERS)[:1]:
        keys = head_keys(part.file)
        named = NAME.fullmatch(part.file.name) is not None
        return {"question_id", "image_id", "question"} <= keys and (named or {"questions", "data_subtype"} <= keys)
    return False


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture, with all its questions. Raises `InputError` where no file is, or one is broken."""
    sets = _sets(path, split)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for parts in sets for row in _rows(parts, pictures))
    found = ", ".join(part.file.name for parts in sets for part in parts)
    return Rows(f"VQA questions ({found})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The files of questions and annotations, and the pictures."""
    for parts in _sets(path, split):
        yield from (part.file for part in parts)
        yield from filter(None, [_annotation_file(parts[0].file)])
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _sets(path: Path, split: str | None) -> list[list[Part]]:
    """The question files of each version and split, the open-ended one first."""
    parts = choose(find(path, NAME, FOLDERS), split, path, "VQA questions (v2_OpenEnded_mscoco_..._questions.json)")
    sets: dict[str, list[Part]] = {}
    for part in sorted(parts, key=lambda part: "multiplechoice" in part.file.name.lower()):
        sets.setdefault(_without_task(part.file.name), []).append(part)
    return list(sets.values())


def _without_task(name: str) -> str:
    return re.sub(r"(OpenEnded|MultipleChoice)_", "", name, flags=re.IGNORECASE)


def _annotation_file(questions: Path) -> Path | None:
    """The annotations of a question file: beside it, or in a folder beside its own; test questions have none."""
    name = _without_task(questions.name).replace("questions", "annotations")
    for file in find(home(questions, FOLDERS), re.compile(re.escape(name)), FOLDERS):
        if file.file != questions:
            return file.file
    return None


def _rows(parts: list[Part], pictures: Pictures) -> Iterator[Row]:
    questions: dict[str, tuple[int | str, Question]] = {}
    facts: dict[str, Any] = {}
    for part in parts:
        for name, record in stream_members(part.file, "questions"):
            if name != "questions":
                facts.setdefault(name, record)
                continue
            try:
                yield from _add(record, questions, part, parts)
            except BadRow as error:
                yield Rejected(_name(record, part.file), error.reason, error.detail)
    annotations = _annotation_file(parts[0].file)
    types: dict[str, str] = {}
    if annotations is not None:
        yield from _answer(annotations, questions, types)
    yield from _samples(questions, types, facts, parts[0], pictures)


def _add(
    record: Any, questions: dict[str, tuple[int | str, Question]], part: Part, parts: list[Part]
) -> Iterator[Rejected]:
    """Add one question; one that the open-ended file has already asked gets its choices from the other file."""
    where = _name(record, part.file)
    id = str(need(record, "question_id", (int, str), where))
    image = need(record, "image_id", (int, str), where)
    choices = record.get("multiple_choices")
    question = Question(
        need(record, "question", str, where),
        id=id,
        choices=[] if choices is None else texts(choices, f"{where}: multiple_choices"),
    )
    if id not in questions:
        questions[id] = (image, question)
    elif part is not parts[0] and not questions[id][1].choices:
        questions[id][1].choices = question.choices
    else:
        yield Rejected(where, "duplicate id", f"{where}: question {id} is asked twice")


def _answer(
    annotations: Path, questions: dict[str, tuple[int | str, Question]], types: dict[str, str]
) -> Iterator[Rejected]:
    """Give the questions their answers and note their types; reject answers without a question, and the reverse."""
    answered = set()
    for name, record in stream_members(annotations, "annotations"):
        if name != "annotations":
            continue
        where = _name(record, annotations)
        try:
            id = str(need(record, "question_id", (int, str), where))
            answered.add(id)
            if id not in questions:
                raise BadRow("dangling id", f"{where}: no question {id}")
            found = _answers(record, where)
        except BadRow as error:
            questions.pop(str(record.get("question_id")) if isinstance(record, dict) else "", None)
            yield Rejected(where, error.reason, error.detail)
        else:
            question = questions[id][1]
            question.answers, question.kind, types[id] = found
    for id in [id for id in questions if id not in answered]:
        del questions[id]
        yield Rejected(id, "dangling id", f"{annotations.name}: no answers to question {id}")


def _answers(record: Any, where: str) -> Answers:
    answers = answers_of(record, where)
    if not answers:
        answers = [need(record, "multiple_choice_answer", str, where)]
    return Answers(
        answers, maybe(record, "answer_type", str, where) or "", maybe(record, "question_type", str, where) or ""
    )


def _samples(
    questions: dict[str, tuple[int | str, Question]],
    types: dict[str, str],
    facts: dict[str, Any],
    part: Part,
    pictures: Pictures,
) -> Iterator[Sample]:
    groups: dict[int | str, list[Question]] = {}
    for image, question in questions.values():
        groups.setdefault(image, []).append(question)
    named = NAME.fullmatch(part.file.name)
    subset = _fact(facts, "data_subtype", part.file) or (named["split"] if named else "")
    subset = subset.replace("test-dev", "test")  # its questions are about pictures of the test split
    kind = _fact(facts, "data_type", part.file)
    abstract = kind.startswith("abstract")
    stem = f"{kind if abstract else 'COCO'}_{subset}"
    license = facts["license"] if isinstance(facts.get("license"), dict) else {}
    for image, asked in groups.items():
        number = f"{image:012d}" if isinstance(image, int) else image
        names = [f"{stem}_{number}.{'png' if abstract else 'jpg'}", f"{number}.jpg"]
        known = [types.get(question.id, "") for question in asked]
        yield Sample(
            f"{stem}_{number}",
            [pictures.find(*names)],
            questions=asked,
            texts={"question_types": json.dumps(known)} if any(known) else {},
            license=_fact(license, "name", part.file) or None,
            split=part.split,
        )


def _fact(facts: dict[str, Any], name: str, file: Path) -> str:
    """What a question file says of itself, "" if nothing."""
    found = facts.get(name)
    if not isinstance(found, str | None):
        raise InputError(f"{file}: {name}: expected text, got {type(found).__name__}")
    return found or ""


def _name(record: Any, file: Path) -> str:
    return f"{file.name}: question {record.get('question_id') if isinstance(record, dict) else '?'}"
