"""The public formats that raw data comes in, one a file. A new format is a new file and one line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from diptych.data.formats import image_folder, parquet, table
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError

__all__ = ["FORMATS", "Format", "Row", "Rows", "recognise"]


class Format(NamedTuple):
    """How a kind of source is told, read, and watched for changes."""

    recognise: Callable[[Path], bool]
    read: Callable[[Path], Rows]
    listing: Callable[[Path], Iterator[Path]]


FORMATS: dict[str, Format] = {  # asked in this order
    "parquet": Format(parquet.recognise, parquet.read, parquet.listing),
    "table": Format(table.recognise, table.read, table.listing),
    "image folder": Format(image_folder.recognise, image_folder.read, image_folder.listing),
}


def recognise(path: Path) -> str:
    """The name of the format of `path`. Raises `InputError` when nothing there can be read."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    for name, format in FORMATS.items():
        if format.recognise(path):
            return name
    raise InputError(f"{path}: expected a folder of pictures, a CSV, TSV or JSON-lines table, or Parquet; found none")
