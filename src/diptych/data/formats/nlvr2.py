"""NLVR2: `{train,dev,test1,test2}.json`, JSON lines, each a statement about two photos that is true or false.

The pictures are named after the identifier: `dev-850-0-0` is about `dev-850-0-img0.png` and `dev-850-0-img1.png`. In
the identifier stand the split, the set of eight photos, the pair and the sentence. The same sentence about other pairs
of the set is one group: consistency is counted over groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.records import BadRow, head_keys, maybe, need, rows_of
from diptych.data.formats.rows import Row, Rows, decode_text
from diptych.data.formats.table import json_lines
from diptych.types import InputError, Question, Rejected, Sample

NAME = re.compile(r"(?P<split>train|dev|test[12])\.json", re.IGNORECASE)
FOLDERS = ("data", "annotations")
PICTURES = ("images", "", "images/train", "images/dev", "images/test1", "images/test2")
IDENTIFIER = re.compile(r"(\w+)-(\w+)-(\w+)-(\w+)")
LABELS = {"true": "True", "false": "False"}


def recognise(path: Path) -> bool:
    """Whether a file of statements, one a line, is there."""
    if path.is_file() and path.suffix.lower() not in (".json", ".jsonl"):
        return False
    return any({"identifier", "sentence"} <= head_keys(part.file) for part in find(path, NAME, FOLDERS)[:1])


def read(path: Path, *, split: str | None = None, images: str | None = None) -> Rows:
    """One sample of two pictures for each statement. Raises `InputError` where no file is, or one holds no text."""
    parts = _parts(path, split)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part, pictures))
    return Rows(f"NLVR2 ({', '.join(p.file.name for p in parts)})", items, None, root=pictures.root)


def listing(path: Path, *, split: str | None = None, images: str | None = None) -> Iterator[Path]:
    """The files of statements and the pictures."""
    yield from (part.file for part in _parts(path, split))
    yield from Pictures(home(path, FOLDERS), ("images", "train", "dev", "test1", "test2", ""), images).files()


def _parts(path: Path, split: str | None) -> list[Part]:
    return choose(find(path, NAME, FOLDERS), split, path, "NLVR2 statements (train.json, dev.json, test1.json)")


def _rows(part: Part, pictures: Pictures) -> Iterator[Row]:
    try:
        text = decode_text(part.file.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{part.file}: cannot be read as text: {error}") from None

    def make(where: str, record: Any) -> Sample:
        return _sample(record, where, part.split, pictures)

    for where, record in json_lines(text, part.file.name):
        yield from [record] if isinstance(record, Rejected) else rows_of([(where, record)], make)


def _sample(record: Any, where: str, split: str | None, pictures: Pictures) -> Sample:
    id = need(record, "identifier", str, where)
    parts = IDENTIFIER.fullmatch(id)
    if parts is None:
        raise BadRow("wrong type", f"{where}: identifier: expected split-set-pair-sentence, got {id}")
    own, group, pair, sentence = parts.groups()
    label = maybe(record, "label", (str, bool), where)
    if label is not None and str(label).lower() not in LABELS:
        raise BadRow("wrong type", f"{where}: label: expected True or False, got {label}")
    directory = maybe(record, "directory", (int, str), where)
    places = [own] if directory is None else [f"{own}/{directory}", str(directory), own]
    stems = [f"{own}-{group}-{pair}-img{side}.png" for side in (0, 1)]
    texts = {name: maybe(record, name, str, where) for name in ("synset", "query", "left_url", "right_url")}
    return Sample(
        id,
        [pictures.find(*(f"{place}/{stem}" for place in places), stem) for stem in stems],
        questions=[
            Question(
                need(record, "sentence", str, where),
                [] if label is None else [LABELS[str(label).lower()]],
                kind="nlvr2",
                id=id,
                choices=["True", "False"],
            )
        ],
        texts={name: text for name, text in texts.items() if text},
        split=split,
        group=f"{own}-{group}-{sentence}",
    )
