"""CSV, TSV and JSON-lines tables with a column of picture paths.

Paths are relative to the table's folder, or to an `images` folder beside the table. Several rows of one picture become
one sample with several captions. A row that cannot be read is rejected alone; the others go on.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.formats.rows import (
    Columns,
    Row,
    Rows,
    choose_columns,
    decode_text,
    join_path,
    merge_by_picture,
    plain_name,
    sample_of,
)
from diptych.data.formats.written import Pictures
from diptych.images import BadImage
from diptych.types import EncodedImage, InputError, Rejected, Sample

DELIMITED = (".csv", ".tsv", ".txt")
JSON_LINES = (".jsonl", ".ndjson")
PROBE_ROWS = 50  # rows looked at to find out which folder the paths start from

Record = dict[str, Any] | Rejected
Records = list[tuple[str, Record]]  # with where each stands: "captions.csv:12"


class Table(NamedTuple):
    """A table's columns, its rows before merging, and the pictures it mentions, by path relative to its folder."""

    columns: Columns
    rows: list[Row]
    mentioned: set[str]


def recognise(path: Path) -> bool:
    """Whether `path` is a file that is named like a table."""
    return path.is_file() and path.suffix.lower() in (*DELIMITED, *JSON_LINES)


def read(path: Path) -> Rows:
    """All rows of the table. Raises `InputError` if no column holds picture paths."""
    found = read_table(path)
    merged, gone = merge_by_picture(found.rows)
    return Rows(f"a table of {len(merged):,} pictures ({found.columns})", iter(merged), len(merged), gone)


def listing(path: Path) -> Iterator[Path]:
    """The table and the pictures that it names."""
    yield path
    yield from (path.parent / name for name in sorted(read_table(path).mentioned))


def read_table(path: Path) -> Table:
    """Read all of a table. Raises `InputError` if it is not text or no column holds picture paths."""
    if not path.is_file():  # a pipe could block for ever
        raise InputError(f"{path}: expected a file")
    try:
        text = decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    if path.suffix.lower() in JSON_LINES:
        records = list(json_lines(text, path.name))
        names = list(dict.fromkeys(name for _, record in records if isinstance(record, dict) for name in record))
        columns = choose_columns(names)
    else:
        columns, records, names = _delimited(text, path)
    if columns is None:
        listed = ", ".join(names[:12])[:200].encode("utf-8", "replace").decode()
        found = f", found {listed}" if names else ""
        raise InputError(
            f"{path}: no column names the picture files; expected one called file_name, image, path or alike{found}"
        )
    base = _base(path, [str(record.get(columns.image)) for _, record in records if isinstance(record, dict)])
    table = Table(columns, [], set())
    for where, record in records:
        row = record if isinstance(record, Rejected) else _row(where, record, table, path.parent, base)
        table.rows.append(row)
    return table


def _row(where: str, record: dict[str, Any], table: Table, folder: Path, base: str) -> Row:
    columns = table.columns
    file = record.get(columns.image)
    if file is not None and not isinstance(file, str):
        return Rejected(where, "wrong type", f"{where}: {columns.image}: expected a path, got {type(file).__name__}")
    if not file or not file.strip():
        return Rejected(where, "image missing", f"{where}: {columns.image} is empty")
    file = file.strip()
    if "\\" in file and not exists(folder / base / file):  # written on Windows
        file = file.replace("\\", "/")
    file = join_path(base, file)
    table.mentioned.add(file)
    return sample_of(record, columns, [EncodedImage(None, file)], where)


def _base(table: Path, files: list[str]) -> str:
    """The folder, relative to the table's, from which its paths lead to files: its own, or `images` beside it."""
    probes = files[:PROBE_ROWS]
    for base in _bases(table):
        if any(exists(table.parent / base / file.strip()) for file in probes):
            return base
    return ""


def _bases(table: Path) -> tuple[str, ...]:
    return ("", "images", "Images", table.stem)


def exists(path: Path) -> bool:
    """Whether a file is there; a path that no file system allows leads to none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write `pairs.tsv` as open_clip reads it (`filepath` and `title`, a row for each caption) and `images/`.

    Returns what was left out: a table of pairs has no room for annotations or for samples of several pictures.
    """
    pictures = Pictures(folder / "images")
    left: Counter[str] = Counter()
    with (folder / "pairs.tsv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(("filepath", "title"))
        for sample in samples:
            if len(sample.images) != 1 or not sample.captions:
                left["not one picture with captions"] += 1
                continue
            try:
                path = pictures.add(sample.images[0], sample.id)
            except BadImage as error:
                left[error.reason] += 1
                continue
            rows.writerows((path, _plain_breaks(caption)) for caption in sample.captions)
    return dict(left)


# ---------------------------------------------------------------- JSON lines


def json_lines(text: str, name: str) -> Iterator[tuple[str, Record]]:
    """(where it stands, the object or why there is none) of each line that is not blank."""
    for n, line in enumerate(_lines(text), 1):
        if line.strip():
            yield f"{name}:{n}", _json_object(line, f"{name}:{n}")


def _json_object(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Rejected(where, "row broken", f"{where}: {error}")
    if not isinstance(record, dict):
        return Rejected(where, "row broken", f"{where}: expected an object, got {type(record).__name__}")
    return record


def _lines(text: str) -> list[str]:
    """Lines of any platform. Not str.splitlines: a line separator within a caption does not end a row."""
    return _plain_breaks(text).split("\n")


def _plain_breaks(text: str) -> str:
    """Line breaks of any platform as "\\n"; the csv module would write a lone "\\r" without quotes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ---------------------------------------------------------------- delimited text


class _Rewindable:
    """Lines for the csv reader that can be set back, so that a broken row costs one line, not the rest of the file."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0

    def __iter__(self) -> _Rewindable:
        return self

    def __next__(self) -> str:
        if self.at >= len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1] + "\n"


def _delimited(text: str, path: Path) -> tuple[Columns | None, Records, list[str]]:
    """Find the delimiter by which the header names a picture column, then read the rows; the header comes along."""
    delimiters = "\t,;|" if path.suffix.lower() == ".tsv" else ",\t;|"
    lines = _lines(text)
    headers = [_first(lines, delimiter) for delimiter in delimiters]
    for delimiter, cells in zip(delimiters, headers):
        names = _unique(cells)
        if (columns := choose_columns(names)) is not None:
            return columns, _records(lines, delimiter, names, path.name)[1:], names
    for delimiter, cells in zip(delimiters, headers):  # no header: two columns, the first of which leads to a file
        if len(cells) == 2 and any(exists(path.parent / base / cells[0].strip()) for base in _bases(path)):
            names = ["path", "caption"]
            return choose_columns(names), _records(lines, delimiter, names, path.name), names
    return None, [], max(headers, key=len)


def _first(lines: list[str], delimiter: str) -> list[str]:
    """The cells of the first row; none if it is broken."""
    cells = next(_parse(lines, delimiter), (0, ""))[1]
    return cells if isinstance(cells, list) else []


def _records(lines: list[str], delimiter: str, names: list[str], file: str) -> Records:
    records: Records = []
    for line, cells in _parse(lines, delimiter):
        where = f"{file}:{line}"
        if isinstance(cells, str):
            records.append((where, Rejected(where, "row broken", f"{where}: {cells}")))
        elif len(cells) != len(names):
            detail = f"{where}: expected {len(names)} columns, got {len(cells)}"
            records.append((where, Rejected(where, "row broken", detail)))
        else:
            records.append((where, dict(zip(names, cells))))
    return records


def _parse(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line number, cells) of each row that is not blank; a sentence in place of the cells of a broken row."""
    source = _Rewindable(lines)
    while source.at < len(lines):
        start = source.at
        try:
            for cells in csv.reader(source, delimiter=delimiter, strict=True):
                if len(cells) > 1 or any(cell.strip() for cell in cells):
                    yield start + 1, cells
                start = source.at
        except csv.Error as error:
            source.at = start + 1
            # Paired quotes that the rules forbid are somebody's speech: read this line as if quotes meant nothing.
            yield start + 1, lines[start].split(delimiter) if lines[start].count('"') % 2 == 0 else str(error)


def _unique(names: list[str]) -> list[str]:
    """Column names made distinct and not blank: a second 'caption' becomes 'caption_2'."""
    taken: set[str] = set()
    unique = []
    for i, given in enumerate(names, 1):
        name = given.strip() or f"column_{i}"
        new, n = name, 1
        while plain_name(new) in taken:
            n += 1
            new = f"{name}_{n}"
        taken.add(plain_name(new))
        unique.append(new)
    return unique
