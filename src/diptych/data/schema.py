"""How a `Sample` lies on disk: one Parquet row of typed, nested columns that other engines read as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from diptych.types import EncodedImage, Mask, Message, Negative, Object, Question, Region, Relation, Sample

TEXT = pa.string()
TEXTS = pa.list_(TEXT)

BOX = pa.list_(pa.float64())

SCHEMA = pa.schema(
    [
        ("id", TEXT),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", TEXT)]))),
        ("captions", TEXTS),
        ("label", TEXT),
        ("tags", TEXTS),
        (
            "objects",
            pa.list_(
                pa.struct(
                    [
                        ("name", TEXT),
                        ("box", BOX),
                        ("mask", pa.struct([("height", pa.int32()), ("width", pa.int32()), ("counts", pa.binary())])),
                        ("attributes", TEXTS),
                        ("id", TEXT),
                        ("kind", TEXT),
                        ("depth", pa.float64()),
                    ]
                )
            ),
        ),
        ("relations", pa.list_(pa.struct([("subject", pa.int32()), ("predicate", TEXT), ("object", pa.int32())]))),
        ("regions", pa.list_(pa.struct([("phrase", TEXT), ("box", BOX), ("object", pa.int32())]))),
        (
            "questions",
            pa.list_(
                pa.struct(
                    [
                        ("question", TEXT),
                        ("answers", TEXTS),
                        ("kind", TEXT),
                        ("id", TEXT),
                        ("choices", TEXTS),
                        ("answerable", pa.bool_()),
                        ("program", TEXT),
                    ]
                )
            ),
        ),
        ("negatives", pa.list_(pa.struct([("text", TEXT), ("kind", TEXT), ("of", pa.int32())]))),
        ("messages", pa.list_(pa.struct([("role", TEXT), ("text", TEXT)]))),
        # A list of pairs and not Arrow's map: Hugging Face `datasets` and Polars read it without a special case.
        ("texts", pa.list_(pa.struct([("name", TEXT), ("text", TEXT)]))),
        ("source", TEXT),
        ("license", TEXT),
        ("url", TEXT),
        ("creator", TEXT),
        ("split", TEXT),
        ("group", TEXT),
        ("scores", pa.list_(pa.struct([("name", TEXT), ("score", pa.float64())]))),
    ]
)

FLAT = ("id", "label", "source", "license", "url", "creator", "split", "group")
"""Fields that hold one string; `texts.<name>` is one as well."""


def is_ours(schema: Any) -> bool:
    """Whether a Parquet schema is `SCHEMA` or one of its earlier versions, which had fewer fields."""
    known = {field.name: field.type for field in SCHEMA}
    return {"id", "images", "captions", "scores"} <= set(schema.names) and all(
        field.name in known and _within(field.type, known[field.name]) for field in schema
    )


def _within(old: Any, new: Any) -> bool:
    """Whether every field of the nested type `old` is in `new`."""
    if pa.types.is_list(old) and pa.types.is_list(new):
        return _within(old.value_type, new.value_type)
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        names = {new.field(i).name for i in range(new.num_fields)}
        fields = [old.field(i) for i in range(old.num_fields)]
        return all(field.name in names and _within(field.type, new.field(field.name).type) for field in fields)
    return bool(old.equals(new))


def to_row(sample: Sample) -> dict[str, Any]:
    """The sample as one plain row of `SCHEMA`. Text that is not valid Unicode is mended with '?'."""
    return {
        "id": _text(sample.id),
        "images": [{"bytes": image.data, "path": _text(image.path)} for image in sample.images],
        "captions": _texts(sample.captions),
        "label": _text(sample.label),
        "tags": _texts(sample.tags),
        "objects": [
            {
                "name": _text(thing.name),
                "box": _box_row(thing.box),
                "mask": None if thing.mask is None else _mask_row(thing.mask),
                "attributes": _texts(thing.attributes),
                "id": _text(thing.id),
                "kind": thing.kind,
                "depth": thing.depth,
            }
            for thing in sample.objects
        ],
        "relations": [
            {"subject": r.subject, "predicate": _text(r.predicate), "object": r.object} for r in sample.relations
        ],
        "regions": [{"phrase": _text(r.phrase), "box": _box_row(r.box), "object": r.object} for r in sample.regions],
        "questions": [
            {
                "question": _text(q.question),
                "answers": _texts(q.answers),
                "kind": _text(q.kind),
                "id": _text(q.id),
                "choices": _texts(q.choices),
                "answerable": q.answerable,
                "program": _text(q.program),
            }
            for q in sample.questions
        ],
        "negatives": [{"text": _text(n.text), "kind": _text(n.kind), "of": n.of} for n in sample.negatives],
        "messages": [{"role": _text(m.role), "text": _text(m.text)} for m in sample.messages],
        "texts": [{"name": _text(name), "text": _text(text)} for name, text in sample.texts.items()],
        "source": _text(sample.source),
        "license": _text(sample.license),
        "url": _text(sample.url),
        "creator": _text(sample.creator),
        "split": _text(sample.split),
        "group": _text(sample.group),
        "scores": [{"name": _text(name), "score": score} for name, score in sample.scores.items()],
    }


def from_row(row: Mapping[str, Any]) -> Sample:
    """The sample of one row of `SCHEMA`; columns and fields that are absent stay empty."""
    get = row.get
    return Sample(
        id=row["id"],
        images=[EncodedImage(image["bytes"], image["path"]) for image in get("images") or ()],
        captions=get("captions") or [],
        label=get("label"),
        tags=get("tags") or [],
        objects=[_object(thing) for thing in get("objects") or ()],
        relations=[Relation(**relation) for relation in get("relations") or ()],
        regions=[Region(r["phrase"], _box(r["box"]), r["object"]) for r in get("regions") or ()],
        questions=[_question(question) for question in get("questions") or ()],
        negatives=[Negative(**negative) for negative in get("negatives") or ()],
        messages=[Message(**message) for message in get("messages") or ()],
        texts={pair["name"]: pair["text"] for pair in get("texts") or ()},
        source=get("source"),
        license=get("license"),
        url=get("url"),
        creator=get("creator"),
        split=get("split"),
        group=get("group"),
        scores={pair["name"]: pair["score"] for pair in get("scores") or ()},
    )


def _object(row: Mapping[str, Any]) -> Object:
    return Object(
        row["name"],
        _box(row["box"]),
        None if row["mask"] is None else Mask(**row["mask"]),
        row["attributes"] or [],
        row.get("id") or "",
        row.get("kind") or "thing",
        row.get("depth"),
    )


def _question(row: Mapping[str, Any]) -> Question:
    return Question(
        row["question"],
        row["answers"] or [],
        row["kind"] or "",
        row.get("id") or "",
        row.get("choices") or [],
        row.get("answerable"),
        row.get("program") or "",
    )


def _box(box: list[float] | None) -> Any:
    return None if box is None else tuple(box)


def _box_row(box: tuple[float, float, float, float] | None) -> list[float] | None:
    return None if box is None else list(box)


def _mask_row(mask: Mask) -> dict[str, Any]:
    return {"height": mask.height, "width": mask.width, "counts": mask.counts}


def _text(text: str | None) -> str | None:
    """`text` as valid UTF-8: a file name that is not, or a lone half of a JSON escape, holds surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


def _texts(texts: list[str]) -> list[str | None]:
    return [_text(text) for text in texts]
