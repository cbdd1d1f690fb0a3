"""What the readers of JSON formats share: reading a file, taking fields of a known type, and rejecting one bad row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.rows import Row, decode_text, valid
from diptych.types import InputError, Rejected, Sample

SNIFFED = 1 << 16  # bytes that are looked at to tell a format

_KEY = re.compile(r'"((?:[^"\\\\]|\\\\.){1,40})"\s*:')


class BadRow(ValueError):
    """One record that cannot become a sample: `reason`, a short kind that is counted, and `detail`: what and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def load_json(path: Path, kind: type[Any] = dict) -> Any:
    """The contents of a JSON file. Raises `InputError` if it is missing, cut short, no JSON, or no `kind`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        value = json.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = {"dict": "an object", "list": "a list"}[kind.__name__]
        raise InputError(f"{path}: expected {wanted} at the top, got {type(value).__name__}")
    return value


def head_keys(path: Path) -> frozenset[str]:
    """The names of fields in the first 64 KiB of a JSON file, of any depth: cheap, to tell a format by."""
    try:
        with path.open("rb") as file:
            return frozenset(_KEY.findall(file.read(SNIFFED).decode("utf-8", "replace")))
    except OSError:
        return frozenset()


def need(record: Any, field: str, kind: type[Any] | tuple[type[Any], ...], where: str) -> Any:
    """`record[field]`, which must be there and of the type; a number is never a bool. Raises `BadRow`."""
    if not isinstance(record, dict):
        raise BadRow("wrong type", f"{where}: expected an object, got {type(record).__name__}")
    if record.get(field) is None:
        raise BadRow("field missing", f"{where}: {field}")
    return checked(record[field], kind, f"{where}: {field}")


def maybe(record: Any, field: str, kind: type[Any] | tuple[type[Any], ...], where: str) -> Any:
    """`record[field]` of the type, or None where it is absent or null. Raises `BadRow`."""
    return need(record, field, kind, where) if isinstance(record, dict) and record.get(field) is not None else None


def checked(value: Any, kind: type[Any] | tuple[type[Any], ...], where: str) -> Any:
    """`value`, which must be of the type and, if it is text, valid Unicode. Raises `BadRow`."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise BadRow("wrong type", f"{where}: expected {wanted}, got {type(value).__name__}")
    if isinstance(value, str) and not valid(value):
        raise BadRow("text not UTF-8", where)
    return value


def texts(value: Any, where: str) -> list[str]:
    """A list of texts. Raises `BadRow` for anything else."""
    return [checked(entry, str, where) for entry in checked(value, list, where)]


def number(value: Any, where: str) -> float:
    """A finite number. Raises `BadRow` for anything else."""
    found = checked(value, (int, float), where)
    if not abs(found) < 1e300:  # an int may be larger than any float
        raise BadRow("wrong type", f"{where}: expected a finite number, got {str(found)[:20]}")
    return float(found)


def rows_of(records: Iterable[tuple[str, Any]], make: Callable[[str, Any], Sample]) -> Iterator[Row]:
    """A sample of each (id, record), or the reason why there is none."""
    for id, record in records:
        try:
            yield make(id, record)
        except BadRow as error:
            yield Rejected(id, error.reason, error.detail)
