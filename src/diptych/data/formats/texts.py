"""Texts without pictures, for training language alone: lines of a .txt file, or JSON lines with a `text` field.

Told only by its address, `text:FILE`: a text file beside pictures usually holds captions.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.records import BadRow, checked, need, rows_of
from diptych.data.formats.rows import Rows
from diptych.types import InputError, Sample

SUFFIXES = (".txt", ".jsonl", ".json")  # each may be followed by .gz


def recognise(path: Path) -> bool:
    """Never by itself."""
    return False


def read(path: Path, *, field: str = "text") -> Rows:
    """A sample of each line that is not blank, or of each JSON line (`field` says where its text is), streamed.

    Raises:
        InputError: a folder without such files, or a file that cannot be opened.
    """
    files = list(listing(path))
    if not files:
        raise InputError(f"{path}: expected {', '.join(SUFFIXES)} files, also with .gz")

    def sample(id: str, line: Any) -> Sample:
        if ".json" in id.rsplit(":", 1)[0][-9:]:
            try:
                line = need(json.loads(line), field, str, id)
            except ValueError as error:
                if isinstance(error, BadRow):
                    raise
                raise BadRow("row broken", f"{id}: {error}") from None
        text = str(checked(line, str, id)).strip()
        if not text:
            raise BadRow("caption empty", id)
        return Sample(id, captions=[text])

    return Rows(f"texts in {len(files)} files", rows_of(_lines(files), sample), None)


def listing(path: Path, *, field: str = "text") -> Iterator[Path]:
    """The files, in order."""
    if path.is_file():
        return iter([path])
    return iter(sorted(f for f in path.rglob("*") if f.name.removesuffix(".gz").endswith(SUFFIXES) and f.is_file()))


def _lines(files: list[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        name = file.name.removesuffix(".gz")
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
                for n, line in enumerate(stream, 1):
                    text = line.decode("utf-8", "surrogateescape").strip()
                    if text:
                        yield f"{name}:{n}", text
        except (OSError, EOFError) as error:
            raise InputError(f"{file}: cannot be read: {error}") from None
