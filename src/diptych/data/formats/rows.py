"""What every reader hands over, and how named columns become a `Sample`.

A reader finds rows; it opens no picture. A sample that it yields names its pictures by path (relative to the source's
root) or carries their bytes; `data/importing.py` reads and checks them.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.writer import CARD
from diptych.types import EncodedImage, Rejected, Sample

Row = Sample | Rejected

IMAGE_NAMES = (
    *("file_name", "filename", "image", "image_path", "img", "img_path", "file", "filepath", "file_path", "path"),
    *("picture", "image_file", "image_name", "images", "jpg", "png", "webp", "image_bytes", "bytes"),
)
CAPTION_NAMES = ("caption", "captions", "text", "texts", "sentence", "sentences", "alt_text", "alt", "comment")
NUMBERED_CAPTION = re.compile(r"(caption|sentence|text|comment)_?\d+")
STAND_INS = ("title", "description")  # captions where no column of the names above exists
FIELD_NAMES = {
    "id": ("id", "uid", "key", "__key__"),
    "label": ("label", "class", "class_name", "category"),
    "tags": ("tags", "keywords"),
    "creator": ("creator", "author", "artist", "photographer"),
    "license": ("license", "licence"),
    "url": ("url", "image_url", "source_url"),
    "source": ("source",),
    "split": ("split", "partition"),
}
SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


class Rows(NamedTuple):
    """What a reader found.

    Attributes:
        found: a sentence part for the log.
        items: its rows.
        total: how many at most, if known.
        merged: how many rows were merged into others.
        root: the folder that picture paths start from and must not leave; None for the source's own.
    """

    found: str
    items: Iterator[Row]
    total: int | None
    merged: int = 0
    root: Path | None = None


@dataclass(frozen=True)
class Columns:
    """Which column plays which part. A column without a part becomes a side text, so that nothing vanishes."""

    image: str
    captions: tuple[str, ...]  # in order of preference; the first that is filled is used
    numbered: tuple[str, ...] = ()  # caption_1, caption_2, ...: all are used
    fields: dict[str, str] = field(default_factory=dict)  # field of the sample -> column
    side: tuple[str, ...] = ()

    def __str__(self) -> str:
        captions = ", ".join(self.numbered or self.captions) or "none"
        return f"pictures: column '{self.image}', captions: {captions}"


def choose_columns(names: Iterable[str], image: str | None = None) -> Columns | None:
    """Give the columns their parts by name; None if no name speaks of pictures and `image` does not say which does."""
    names = list(names)
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(plain_name(name), name)
    image = image or next((plain[name] for name in IMAGE_NAMES if name in plain), None)
    if image is None:
        return None
    plain = {key: name for key, name in plain.items() if name != image}
    numbered = tuple(name for key, name in plain.items() if NUMBERED_CAPTION.fullmatch(key))
    captions = tuple(plain[name] for name in CAPTION_NAMES if name in plain)
    if not captions and not numbered:
        captions = tuple(plain[name] for name in STAND_INS if name in plain)
    found = {
        part: next((plain[name] for name in wanted if name in plain), None) for part, wanted in FIELD_NAMES.items()
    }
    fields = {part: name for part, name in found.items() if name is not None}
    used = {image, *numbered, *fields.values()}
    return Columns(image, captions, numbered, fields, tuple(name for name in names if name not in used))


def sample_of(values: dict[str, Any], columns: Columns, images: list[EncodedImage], where: str) -> Row:
    """The sample of one row, or why there is none. `where` says where the row stands and is the id of last resort.

    A row whose caption columns are all blank is rejected: in a table of pairs that is an error, not a choice. A list
    that is there and empty is a choice.
    """
    part = {name: _scalar(values.get(column)) or None for name, column in columns.fields.items() if name != "tags"}
    path = next((image.path for image in images if image.path), None)
    id = part.get("id") or path or where
    captions: list[str] = []
    served = set(columns.numbered)
    for name in (*columns.numbered, *columns.captions):
        if captions and name not in columns.numbered:
            break
        found = _strings(values.get(name))
        if found is None:
            return Rejected(id, "wrong type", f"{where}: {name}: expected text or a list of texts")
        captions += [text.strip() for text in found if text.strip()]
        if captions and plain_name(name) not in STAND_INS:
            served.add(name)
    named = (*columns.numbered, *columns.captions)
    if named and not captions and not any(values.get(name) == [] for name in named):
        return Rejected(id, "caption empty", f"{where}: {', '.join(named)}")
    side = {name: _scalar(values.get(name)) for name in columns.side if name not in served}
    texts = {name: text for name, text in side.items() if text is not None}
    tags = _tags(values.get(columns.fields["tags"])) if "tags" in columns.fields else []
    if not all(map(valid, captions)):
        return Rejected(id, "caption not UTF-8", where)
    if not all(map(valid, (*texts, *texts.values(), *tags, *(text for text in part.values() if text)))):
        return Rejected(id, "text not UTF-8", where)
    if path:
        texts.setdefault("path", path)
    return Sample(
        id=id,
        images=images,
        captions=captions,
        label=part.get("label"),
        tags=tags,
        texts=texts,
        source=part.get("source"),
        license=part.get("license"),
        url=part.get("url"),
        creator=part.get("creator"),
        split=part.get("split"),
    )


def merge_by_picture(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """Rows of one picture made one sample with all their captions; the second value counts the rows merged away."""
    first: dict[str, tuple[Sample, set[str], set[str]]] = {}  # with its captions and tags: one may have thousands
    merged: list[Row] = []
    gone = 0
    for row in rows:
        path = row.images[0].path if isinstance(row, Sample) and len(row.images) == 1 else None
        if isinstance(row, Rejected) or path is None:
            merged.append(row)
        elif path not in first:
            first[path] = row, set(row.captions), set(row.tags)
            merged.append(row)
        else:
            gone += 1
            kept, captions, tags = first[path]
            for own, known, new in ((kept.captions, captions, row.captions), (kept.tags, tags, row.tags)):
                own += [text for text in new if text not in known]
                known.update(new)
            kept.texts = row.texts | kept.texts
            for name in ("label", "source", "license", "url", "creator", "split"):
                setattr(kept, name, getattr(kept, name) or getattr(row, name))
    return merged, gone


def decode_text(data: bytes) -> str:
    """Text of UTF-8, or of UTF-16 that says so by its mark; bytes that are not UTF-8 stay visible as surrogates."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with suppress(UnicodeDecodeError):  # half a letter at the end: then it is no UTF-16 either
            return data.decode("utf-16", "surrogatepass")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def join_path(folder: str, path: str) -> str:
    """A path of a row, made relative to where `folder` starts from; a URL stays as it is."""
    return path if "://" in path else posixpath.normpath(posixpath.join(folder, path))


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a Diptych dataset: one that lies inside a raw source is no part of it."""
    return (folder / CARD).is_file()


def valid(text: str) -> bool:
    """Whether `text` can be written as UTF-8: false where undecodable bytes were kept as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_of(path: str) -> str | None:
    """The split that the first folder of a relative path names, if it names one."""
    parts = Path(path).parts
    return SPLITS.get(parts[0].casefold()) if len(parts) > 1 else None


def plain_name(name: str) -> str:
    """A column's name for comparison: without case, spaces and hyphens."""
    return re.sub(r"[\s\-]+", "_", name.strip().casefold())


def _strings(value: Any) -> list[str] | None:
    """A text or a list of texts as a list; None for anything else."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(entry is None or isinstance(entry, str) for entry in value):
        return [entry for entry in value if entry is not None]
    return None


def _tags(value: Any) -> list[str]:
    """Tags from a list, or from one text with commas, semicolons or bars between them."""
    found = _strings(value)
    parts = re.split(r"[,;|]", value) if isinstance(value, str) else [str(value)] if found is None else found
    return [part.strip() for part in parts if part.strip()]


def _scalar(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if value == []:
        return None
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
