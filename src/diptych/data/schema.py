"""How a `Sample` lies on disk: one Parquet row of typed, nested columns that other engines read as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from diptych.types import EncodedImage, Mask, Object, Question, Relation, Sample

TEXT = pa.string()
TEXTS = pa.list_(TEXT)

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
                        ("box", pa.list_(pa.float64())),
                        ("mask", pa.struct([("height", pa.int32()), ("width", pa.int32()), ("counts", pa.binary())])),
                        ("attributes", TEXTS),
                    ]
                )
            ),
        ),
        ("relations", pa.list_(pa.struct([("subject", pa.int32()), ("predicate", TEXT), ("object", pa.int32())]))),
        ("questions", pa.list_(pa.struct([("question", TEXT), ("answers", TEXTS), ("kind", TEXT)]))),
        # A list of pairs and not Arrow's map: Hugging Face `datasets` and Polars read it without a special case.
        ("texts", pa.list_(pa.struct([("name", TEXT), ("text", TEXT)]))),
        ("source", TEXT),
        ("license", TEXT),
        ("url", TEXT),
        ("creator", TEXT),
        ("split", TEXT),
        ("scores", pa.list_(pa.struct([("name", TEXT), ("score", pa.float64())]))),
    ]
)

FLAT = ("id", "label", "source", "license", "url", "creator", "split")
"""Fields that hold one string; `texts.<name>` is one as well."""


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
                "box": None if thing.box is None else list(thing.box),
                "mask": None if thing.mask is None else _mask_row(thing.mask),
                "attributes": _texts(thing.attributes),
            }
            for thing in sample.objects
        ],
        "relations": [
            {"subject": r.subject, "predicate": _text(r.predicate), "object": r.object} for r in sample.relations
        ],
        "questions": [
            {"question": _text(q.question), "answers": _texts(q.answers), "kind": _text(q.kind)}
            for q in sample.questions
        ],
        "texts": [{"name": _text(name), "text": _text(text)} for name, text in sample.texts.items()],
        "source": _text(sample.source),
        "license": _text(sample.license),
        "url": _text(sample.url),
        "creator": _text(sample.creator),
        "split": _text(sample.split),
        "scores": [{"name": _text(name), "score": score} for name, score in sample.scores.items()],
    }


def from_row(row: Mapping[str, Any]) -> Sample:
    """The sample of one row of `SCHEMA`; columns that are absent leave their field empty."""
    get = row.get
    return Sample(
        id=row["id"],
        images=[EncodedImage(image["bytes"], image["path"]) for image in get("images") or ()],
        captions=get("captions") or [],
        label=get("label"),
        tags=get("tags") or [],
        objects=[
            Object(
                thing["name"],
                None if thing["box"] is None else tuple(thing["box"]),
                None if thing["mask"] is None else Mask(**thing["mask"]),
                thing["attributes"] or [],
            )
            for thing in get("objects") or ()
        ],
        relations=[Relation(**relation) for relation in get("relations") or ()],
        questions=[Question(q["question"], q["answers"] or [], q["kind"] or "") for q in get("questions") or ()],
        texts={pair["name"]: pair["text"] for pair in get("texts") or ()},
        source=get("source"),
        license=get("license"),
        url=get("url"),
        creator=get("creator"),
        split=get("split"),
        scores={pair["name"]: pair["score"] for pair in get("scores") or ()},
    )


def _mask_row(mask: Mask) -> dict[str, Any]:
    return {"height": mask.height, "width": mask.width, "counts": mask.counts}


def _text(text: str | None) -> str | None:
    """`text` as valid UTF-8: a file name that is not, or a lone half of a JSON escape, holds surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


def _texts(texts: list[str]) -> list[str | None]:
    return [_text(text) for text in texts]
