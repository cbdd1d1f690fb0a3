"""Conceptual Captions: tables without a header, of captions and URLs. CC3M has the caption first, CC12M the URL.

`Train_GCC-training.tsv`, `Validation_GCC-1.1.0-Validation.tsv`, `cc12m.tsv`; the labelled subset has three more
columns: labels, their ids, and how sure the labeller was. The rows have no pictures: `diptych data fetch` gets them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from diptych.data.formats.annotated import Part, choose, find
from diptych.data.formats.rows import Row, Rows, valid
from diptych.types import InputError, Rejected, Sample

NAME = re.compile(r"(?:.*?(?<![a-z])(?P<split>train|validation|val|test)(?![a-z]))?.*\.tsv", re.IGNORECASE)
SNIFFED = 1 << 16
URL = ("http://", "https://")
COLUMNS = (2, 5)


def recognise(path: Path) -> bool:
    """Whether the first row of a `.tsv` file has two or five cells, and either the first or the second is a URL."""
    if path.is_file() and path.suffix.lower() != ".tsv":
        return False
    return any(_order(part.file) is not None for part in find(path, NAME))


def read(path: Path, *, split: str | None = None) -> Rows:
    """A row without pictures for each line, read as it comes. Raises `InputError` if no table has a URL and a text."""
    parts = _parts(path, split)
    items = (row for part in parts for row in _rows(part))
    names = ", ".join(part.file.name for part in parts)
    return Rows(f"Conceptual Captions, captions and URLs ({names})", items, None)


def listing(path: Path, *, split: str | None = None) -> Iterator[Path]:
    """The tables."""
    return (part.file for part in _parts(path, split))


def _parts(path: Path, split: str | None) -> list[Part]:
    parts = [part for part in find(path, NAME) if part.file == path or _order(part.file) is not None]
    return choose(parts, split, path, "tables (*.tsv) of two columns, a caption and a URL")


def _order(file: Path) -> tuple[int, int, bool] | None:
    """(column of the caption, column of the URL, whether there is a header), told by the first rows."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(SNIFFED).decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    except OSError:
        return None
    first = [cell.strip().casefold() for cell in lines[0].split("\t")]
    if sorted(first[:2]) == ["caption", "url"]:
        return first.index("caption"), first.index("url"), True
    for line in lines[:20]:  # one broken row must not hide the kind of the others
        cells = line.split("\t")
        links = [cell.strip().startswith(URL) for cell in cells[:2]]
        if len(cells) in COLUMNS and sum(links) == 1:
            return links.index(False), links.index(True), False
    return None


def _rows(part: Part) -> Iterator[Row]:
    order = _order(part.file)
    if order is None:
        raise InputError(f"{part.file}: expected two columns with a tab between them, a caption and a URL")
    text, link, header = order
    with part.file.open("rb") as stream:
        for n, raw in enumerate(stream, 1):
            line = raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff" if n == 1 else "").rstrip("\r\n")
            if (n == 1 and header) or not line.strip():
                continue
            yield _row(line, f"{part.file.name}:{n}", text, link, part.split)


def _row(line: str, where: str, text: int, link: int, split: str | None) -> Row:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) not in COLUMNS:
        return Rejected(where, "row broken", f"{where}: expected 2 columns, got {len(cells)}")
    caption, url = cells[text], cells[link]
    if not url.startswith(URL):
        return Rejected(where, "url missing", f"{where}: expected http://... or https://... in column {link + 1}")
    if not caption:
        return Rejected(where, "caption empty", where)
    if not valid(line):
        return Rejected(where, "caption not UTF-8", where)
    tags = [tag for label in cells[2].split(",") if (tag := label.strip())] if len(cells) > 2 else []
    return Sample(where, captions=[caption], tags=tags, url=url, split=split)
