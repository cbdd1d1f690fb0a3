"""Visual Genome 1.2 and 1.4 (arXiv:1602.07332): objects, attributes, relationships and region descriptions.

    ROOT/VG_100K/1.jpg, ROOT/VG_100K_2/1159923.jpg, ...      or below ROOT/images/
    any of ROOT/image_data.json, objects.json, attributes.json, relationships.json, scene_graphs.json,
    region_descriptions.json, question_answers.json

What several files say of an object is brought together by its `object_id`; a relationship that carries its subject and
object in full defines them. Of several names of an object the first is taken; WordNet synsets are not kept. An entry
that cannot be read is rejected under its own name ("relationships.json#15927") and the picture stays with the others.
The files are read one picture at a time, so that memory holds only what becomes of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.boxes import Box, corners
from diptych.data.formats.json_stream import stream_list
from diptych.data.formats.places import below, edge_keys
from diptych.data.formats.records import BadRow, checked, maybe, need, number, texts
from diptych.data.formats.rows import Row, Rows
from diptych.types import EncodedImage, InputError, Object, Question, Region, Rejected, Relation, Sample

FOLDERS = ("VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "images")
FILES: dict[str, set[str]] = {  # name -> fields that tell it; read in this order
    "image_data.json": {"image_id", "url", "width"},
    "objects.json": {"objects", "object_id"},
    "attributes.json": {"attributes", "object_id"},
    "relationships.json": {"relationships", "predicate"},
    "scene_graphs.json": {"objects", "relationships"},
    "region_descriptions.json": {"regions", "phrase"},
    "question_answers.json": {"qas", "question"},
}


def recognise(path: Path) -> bool:
    """A folder with one of the JSON files under its own name."""
    return path.is_dir() and any(keys <= edge_keys(path / name) for name, keys in FILES.items())


def read(path: Path) -> Rows:
    """All pictures that the JSON files speak of. Raises `InputError` for none of the files, or a broken one."""
    names = _present(path)
    if not names:
        raise InputError(f"{path}: expected a folder with one of {', '.join(FILES)}")
    graphs: dict[int, _Graph] = {}
    rejected: list[Rejected] = []
    for name in names:
        add = _ADD[name]
        for i, record in enumerate(stream_list(path / name)):
            where = f"{name}#[{i}]"
            try:
                id = _image_id(record, where)
                if id not in graphs and name != "image_data.json" and names[0] == "image_data.json":
                    raise BadRow("dangling id", f"{where}: image {id} is not in image_data.json")
                add(graphs.setdefault(id, _Graph()), record, name, rejected)
            except BadRow as error:
                rejected.append(Rejected(where, error.reason, error.detail))
    found = f"Visual Genome, {len(graphs):,} pictures ({', '.join(names)})"
    return Rows(found, _rows(path, graphs, rejected), len(graphs) + len(rejected))


def listing(path: Path) -> Iterator[Path]:
    """The JSON files and all files of the folders of pictures."""
    yield from (path / name for name in _present(path))
    yield from below(path / folder for folder in ("VG_100K", "VG_100K_2", "images"))


class _Graph:
    """What the files have said so far of one picture."""

    __slots__ = ("facts", "objects", "places", "questions", "regions", "relations", "seen")

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.objects: list[Object] = []
        self.places: dict[int, int] = {}  # object_id -> position in `objects`
        self.relations: list[Relation] = []
        self.seen: set[int] = set()  # ids of relationships
        self.regions: list[Region] = []
        self.questions: list[Question] = []

    def box(self, record: Any, where: str, width: str = "w", height: str = "h") -> Box:
        x, y, w, h = (number(need(record, key, (int, float), where), where) for key in ("x", "y", width, height))
        return corners(x, y, w, h, (self.facts.get("width"), self.facts.get("height")), where)

    def object(self, record: Any, where: str) -> int:
        """The position of the object that a record describes; a new one is added."""
        id = need(record, "object_id", int, where)
        if id not in self.places:
            names = texts(record["names"], where) if record.get("names") else [need(record, "name", str, where)]
            thing = Object(names[0].strip(), self.box(record, where), id=str(id))
            for other in [id, *(maybe(record, "merged_object_ids", list, where) or [])]:
                if isinstance(other, int):
                    self.places.setdefault(other, len(self.objects))
            self.objects.append(thing)
        return self.places[id]

    def end(self, record: Any, part: str, where: str) -> int:
        """The position of a relationship's subject or object."""
        if record.get(part) is not None:
            return self.object(checked(record[part], dict, f"{where}: {part}"), f"{where}: {part}")
        id = need(record, f"{part}_id", int, where)
        if id not in self.places:
            raise BadRow("dangling id", f"{where}: {part}_id {id} is no object of its picture")
        return self.places[id]


Add = Callable[[_Graph, Any, str, list[Rejected]], None]


def _each(field: str, id: str, one: Callable[[_Graph, Any, str], None]) -> Add:
    """Handle each entry of the list `field` of a picture's record; `id` is what names a bad one."""

    def add(graph: _Graph, record: Any, file: str, rejected: list[Rejected]) -> None:
        for i, entry in enumerate(need(record, field, list, file)):
            own = entry[id] if isinstance(entry, dict) and id in entry else f"image {_image_id(record, file)}[{i}]"
            where = f"{file}#{own}"
            try:
                one(graph, checked(entry, dict, where), where)
            except BadRow as error:
                rejected.append(Rejected(where, error.reason, error.detail))

    return add


def _add_facts(graph: _Graph, record: Any, file: str, rejected: list[Rejected]) -> None:
    if graph.facts:
        raise BadRow("id not unique", f"{file}: image {_image_id(record, file)} stands there twice")
    where = f"{file}: image {_image_id(record, file)}"
    kinds = {"width": int, "height": int, "url": str, "coco_id": int, "flickr_id": int}
    graph.facts = {"known": True} | {key: maybe(record, key, kind, where) for key, kind in kinds.items()}


def _add_object(graph: _Graph, entry: Any, where: str) -> None:
    position = graph.object(entry, where)
    known = graph.objects[position].attributes
    for text in texts(entry.get("attributes") or [], f"{where}: attributes"):
        if text.strip() and text.strip() not in known:
            known.append(text.strip())


def _add_relation(graph: _Graph, entry: Any, where: str) -> None:
    id = maybe(entry, "relationship_id", int, where)
    if id is not None and id in graph.seen:  # the scene graph repeats it
        return
    predicate = need(entry, "predicate", str, where).strip()
    graph.relations.append(Relation(graph.end(entry, "subject", where), predicate, graph.end(entry, "object", where)))
    if id is not None:
        graph.seen.add(id)


def _add_region(graph: _Graph, entry: Any, where: str) -> None:
    phrase = need(entry, "phrase", str, where).strip()
    if not phrase:
        raise BadRow("caption empty", f"{where}: phrase")
    graph.regions.append(Region(phrase, graph.box(entry, where, "width", "height")))


def _add_question(graph: _Graph, entry: Any, where: str) -> None:
    id = maybe(entry, "qa_id", int, where)
    answer = need(entry, "answer", str, where)
    graph.questions.append(Question(need(entry, "question", str, where), [answer], id="" if id is None else str(id)))


def _add_scene_graph(graph: _Graph, record: Any, file: str, rejected: list[Rejected]) -> None:
    _each("objects", "object_id", _add_object)(graph, record, file, rejected)
    _each("relationships", "relationship_id", _add_relation)(graph, record, file, rejected)


_ADD: dict[str, Add] = {
    "image_data.json": _add_facts,
    "objects.json": _each("objects", "object_id", _add_object),
    "attributes.json": _each("attributes", "object_id", _add_object),
    "relationships.json": _each("relationships", "relationship_id", _add_relation),
    "scene_graphs.json": _add_scene_graph,
    "region_descriptions.json": _each("regions", "region_id", _add_region),
    "question_answers.json": _each("qas", "qa_id", _add_question),
}


def _rows(root: Path, graphs: dict[int, _Graph], rejected: list[Rejected]) -> Iterator[Row]:
    yield from rejected
    files = _pictures(root)
    for id in list(graphs):
        graph = graphs.pop(id)
        url = graph.facts.get("url")
        file = files.get(str(id)) or "/".join((url or f"VG_100K/{id}.jpg").split("/")[-2:])
        keys = ("coco_id", "flickr_id")
        yield Sample(
            str(id),
            [EncodedImage(None, file)],
            objects=graph.objects,
            relations=graph.relations,
            regions=graph.regions,
            questions=graph.questions,
            texts={key: str(graph.facts[key]) for key in keys if graph.facts.get(key) is not None},
            url=url,
        )


def _pictures(root: Path) -> dict[str, str]:
    """id -> path of every picture file."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        if (root / folder).is_dir():
            for entry in os.scandir(root / folder):
                found.setdefault(os.path.splitext(entry.name)[0], f"{folder}/{entry.name}")
    return found


def _present(path: Path) -> list[str]:
    return [name for name in FILES if (path / name).is_file()] if path.is_dir() else []


def _image_id(record: Any, where: str) -> int:
    id = maybe(record, "image_id", int, where)
    return int(need(record, "id", int, where) if id is None else id)
