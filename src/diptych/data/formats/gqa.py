"""GQA: `{train,val,testdev,test,challenge}_{balanced,all}_questions.json`, scene graphs beside them, `images/<id>.jpg`.

A question's kind is its structural type ("query", "verify", "logical", "choose", "compare"); its program is the
field `semantic`. Where both are there, the balanced questions are read and not all of them, which contain the former.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, gather, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import BadRow, checked, head_keys, maybe, need, number, texts
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError, Object, Question, Rejected, Relation, Sample

SPLIT = r"(?P<split>train|val|testdev|test|challenge|submission)"
NAME = re.compile(rf"{SPLIT}_(?P<set>balanced|all)_questions(_\d+)?\.json", re.IGNORECASE)
GRAPHS = re.compile(rf"{SPLIT}_sceneGraphs\.json", re.IGNORECASE)
FOLDERS = ("questions", "train_all_questions", "questions1.2", "questions1.3", "scenegraphs")
PICTURES = ("images", "images/images", "allImages/images", "")


def recognise(path: Path) -> bool:
    """Whether a file of GQA's questions is there."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    for part in find(path, NAME, FOLDERS)[:1]:
        keys = head_keys(part.file)
        return {"imageId", "question"} <= keys and not keys & {"images", "annotations"}
    return False


def read(path: Path, *, split: str | None = None, questions: str | None = None, images: str | None = None) -> Rows:
    """One sample for each picture of each question file.

    Args:
        path: the data set's folder, or one file of questions.
        split: only this one.
        questions: "balanced" or "all"; the balanced ones by default, if there are any.
        images: another folder for the pictures.

    Raises:
        InputError: no such file, or one cannot be read.
    """
    parts = _parts(path, split, questions)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    graphs = {graph.split: graph.file for graph in find(home(path, FOLDERS), GRAPHS, FOLDERS)}
    items = (row for part in parts for row in _rows(part, graphs.get(part.split), pictures))
    return Rows(f"GQA questions ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(
    path: Path, *, split: str | None = None, questions: str | None = None, images: str | None = None
) -> Iterator[Path]:
    """The files of questions and scene graphs, and the pictures."""
    yield from (part.file for part in _parts(path, split, questions))
    yield from (graph.file for graph in find(home(path, FOLDERS), GRAPHS, FOLDERS))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path, split: str | None, questions: str | None) -> list[Part]:
    if questions not in (None, "balanced", "all"):
        raise InputError(f"{path}: option 'questions': expected balanced or all, got '{questions}'")
    parts = find(path, NAME, FOLDERS)
    balanced = [part for part in parts if "_balanced_" in part.file.name.lower()]
    if questions is not None and path.is_dir():
        parts = balanced if questions == "balanced" else [part for part in parts if part not in balanced]
    elif balanced:
        parts = balanced
    return choose(parts, split, path, f"GQA questions (train_{questions or 'balanced'}_questions.json)")


def _rows(part: Part, graphs: Path | None, pictures: Pictures) -> Iterator[Row]:
    groups, bad = gather(stream_members(part.file), _question)
    yield from bad
    for image, graph in stream_members(graphs) if graphs is not None else ():
        if image not in groups:
            continue
        sample = _sample(image, groups.pop(image), part.split, pictures)
        try:
            yield from _add_graph(sample, graph, f"{graphs.name if graphs else ''}: {image}")
        except BadRow as error:  # the questions are not to blame
            sample.objects, sample.relations = [], []
            yield Rejected(f"{image}: scene graph", error.reason, error.detail)
        yield sample
    for image, found in groups.items():
        yield _sample(image, found, part.split, pictures)


def _sample(image: str, found: list[tuple[Question, str]], split: str | None, pictures: Pictures) -> Sample:
    full = [answer for _, answer in found]
    sample = Sample(image, [pictures.find(f"{image}.jpg")], questions=[question for question, _ in found], split=split)
    if any(full):
        sample.texts["full_answers"] = json.dumps(full, ensure_ascii=False)
    return sample


def _question(id: str, record: Any) -> tuple[str, tuple[Question, str]]:
    """(picture, (question, its answer as a sentence))."""
    answer = maybe(record, "answer", str, id)
    types = maybe(record, "types", dict, id) or {}
    program = maybe(record, "semantic", list, id)
    question = Question(
        need(record, "question", str, id),
        [] if answer is None else [answer],
        kind=maybe(types, "structural", str, id) or "",
        id=id,
        program=json.dumps(program, ensure_ascii=False, separators=(",", ":")) if program else "",
    )
    return need(record, "imageId", str, id), (question, maybe(record, "fullAnswer", str, id) or "")


def _add_graph(sample: Sample, graph: Any, where: str) -> Iterator[Rejected]:
    """Objects with boxes and the relations between them; a relation to an object that is not there is rejected."""
    things: dict[str, Any] = need(graph, "objects", dict, where)
    place = {id: i for i, id in enumerate(things)}
    for id, thing in things.items():
        x, y, w, h = (number(need(thing, side, (int, float), where), f"{where}: {id}: {side}") for side in "xywh")
        attributes = texts(thing.get("attributes") or [], f"{where}: {id}: attributes")
        sample.objects.append(Object(need(thing, "name", str, where), (x, y, x + w, y + h), None, attributes, id))
        for relation in maybe(thing, "relations", list, where) or ():
            other = str(need(relation, "object", (str, int), where))
            predicate = need(relation, "name", str, where)
            if other in place:
                sample.relations.append(Relation(place[id], checked(predicate, str, where), place[other]))
            else:
                yield Rejected(f"{sample.id}/{id}", "dangling id", f"{where}: '{predicate}' leads to no object {other}")
