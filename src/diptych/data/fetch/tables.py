"""Any table of URLs as a stream of rows: what the formats and datasets read, and plain tables with a column of URLs.

A plain table has no pictures yet, so the formats `table` and `parquet` refuse it. Here one row is read at a time: a
table may be larger than memory.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from diptych.data.formats import FORMATS, recognise
from diptych.data.formats.parquet import SUFFIXES, each_row
from diptych.data.formats.rows import Columns, Row, choose_columns, plain_name, sample_of
from diptych.data.formats.table import DELIMITED, JSON_LINES
from diptych.data.importing import locate, split_address
from diptych.data.store import Dataset, is_store
from diptych.types import EncodedImage, InputError, Rejected

URL_NAMES = ("image_url", "img_url", "image_link", "picture_url", "photo_url", "photo_image_url", "url", "link", "uri")
PLAIN = ("table", "parquet", "folder")  # formats that want pictures on disk
BATCH_ROWS = 1024
TABLE = (
    "a TABLE: a CSV, TSV, JSON-lines or Parquet file with a column of URLs, or a dataset whose rows have a URL and no "
    "picture yet"
)

Opener = Callable[[], Iterator[Row]]


def open_table(address: str | Path) -> Opener:
    """A function that reads the table from its start, as often as it is called.

    Raises:
        InputError: nothing is there, no column holds URLs, or all rows have their pictures.
    """
    from diptych.data import BUILTIN

    kind, rest, _ = split_address(address)
    path = Path(rest).expanduser()
    if address in BUILTIN or (kind is not None and kind not in FORMATS) or (kind is None and is_store(path)):
        return _without_pictures(address, _dataset(str(address)))
    if kind is None and not path.exists():
        raise InputError(f"{rest}: no such file, folder or built-in dataset; expected {TABLE}")
    at = locate(address)
    name = kind or _recognised(at.path)
    if name not in PLAIN:
        return _without_pictures(address, lambda: FORMATS[name].read(at.path, **at.options).items)
    files = _plain_files(at.path)
    _check(path, files)
    return lambda: (row for file in files for row in _rows(file))


def url_of(row: Row) -> str | None:
    """The URL of a row's one picture, None where it names none. Raises `ValueError` for pictures of another kind."""
    if isinstance(row, Rejected):
        return None
    if not row.images:
        return row.url
    if len(row.images) > 1:
        raise ValueError(f"{len(row.images)} pictures in one row; one is fetched for each row")
    if _is_here(row.images[0]):
        raise ValueError("the picture is on disk already")
    return row.images[0].path


def _is_here(image: EncodedImage) -> bool:
    return image.data is not None or "://" not in (image.path or "")


def _without_pictures(address: str | Path, table: Opener) -> Opener:
    """`table`, unless there is nothing to fetch in it."""
    rows = 0
    for row in table():
        if isinstance(row, Rejected) or not row.images or not _is_here(row.images[0]):
            return table
        rows += 1
    if not rows:
        return table
    raise InputError(f"{address}: its {rows:,} rows have their pictures already; expected {TABLE}")


def _dataset(address: str) -> Opener:
    from diptych.data import open_dataset

    dataset: Dataset = open_dataset(address)
    return lambda: iter(dataset)


def _recognised(path: Path) -> str:
    """The format of `path`; "table" for what only this module may be able to read."""
    try:
        return recognise(path)
    except InputError:
        return "table"


def _plain_files(path: Path) -> list[Path]:
    """The tables at `path`: itself, or those right in it."""
    suffixes = (*DELIMITED, *JSON_LINES, *SUFFIXES)
    if path.is_file():
        return [path] if path.suffix.lower() in suffixes else []
    return sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())


def _check(path: Path, files: list[Path]) -> None:
    if not files:
        raise InputError(f"{path}: expected a table of URLs (CSV, TSV, JSON lines, Parquet), found none")
    for file in files:
        next(_rows(file), None)


def _rows(file: Path) -> Iterator[Row]:
    """The rows of one plain table. Raises `InputError` at its first row if no column holds URLs."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return _parquet(file)
    return _json_lines(file) if suffix in JSON_LINES else _delimited(file)


def _columns(names: list[str], file: Path) -> Columns:
    plain = {plain_name(name): name for name in reversed(names)}
    url = next((plain[name] for name in URL_NAMES if name in plain), None)
    columns = choose_columns(names, url) if url is not None else None
    if columns is None:
        shown = ", ".join(names[:12])[:200].encode("utf-8", "replace").decode()
        raise InputError(f"{file}: expected a column of URLs called url, image_url or alike; found {shown or 'none'}")
    return columns


def _row(values: dict[str, Any], columns: Columns, where: str) -> Row:
    url = values.get(columns.image)
    if not isinstance(url, str) or not url.strip():
        return Rejected(where, "url missing", f"{where}: {columns.image}")
    row = sample_of(values, columns, [], where)
    if not isinstance(row, Rejected):
        row.images = [EncodedImage(None, url.strip())]
        row.url = row.url or url.strip()
    return row


# ---------------------------------------------------------------- text


def _open(file: Path) -> IO[str]:
    """The file as text; bytes that are not UTF-8 stay visible as surrogates, for the row to be rejected."""
    try:
        with file.open("rb") as probe:
            utf_16 = probe.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if utf_16 else "utf-8-sig"
        return file.open(encoding=encoding, errors="replace" if utf_16 else "surrogateescape", newline="")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None


def _json_lines(file: Path) -> Iterator[Row]:
    known: dict[tuple[str, ...], Columns] = {}  # by the names of a record's fields
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file.name}:{number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"expected an object, got {type(record).__name__}")
            except (ValueError, RecursionError) as error:
                yield Rejected(where, "row broken", f"{where}: {error}")
                continue
            names = tuple(record)
            try:
                columns = known.setdefault(names, known.get(names) or _columns(list(names), file))
            except InputError as error:
                if not known:
                    raise
                yield Rejected(where, "url missing", str(error))
                continue
            yield _row(record, columns, where)


class _Lines:
    """Lines that can be taken back, so that a broken row costs one line and not those that it swallowed."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0  # of lines handed out

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self.number += 1
        return line

    def rewind(self) -> str:
        """Give back all lines of the present row but its first, which is returned."""
        first, *rest = self.taken
        self.give_back(rest)
        return first

    def give_back(self, lines: list[str]) -> None:
        """Hand out these lines, which were the last, once more."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)
        self.taken = []


def _delimited(file: Path) -> Iterator[Row]:
    with _open(file) as opened:
        lines = _Lines(iter(opened))
        head = next(lines, "")
        delimiter, columns, names = _header(head, file)
        if any(map(_is_url, head.split(delimiter))):  # no header: the first line is a row
            lines.give_back([head])
        for line, cells in _cells(lines, delimiter):
            where = f"{file.name}:{line}"
            if isinstance(cells, str):
                yield Rejected(where, "row broken", f"{where}: {cells}")
            elif len(cells) != len(names):
                yield Rejected(where, "row broken", f"{where}: expected {len(names)} columns, got {len(cells)}")
            else:
                yield _row(dict(zip(names, cells)), columns, where)


def _header(head: str, file: Path) -> tuple[str, Columns, list[str]]:
    """Delimiter, parts and names of the columns: by the header, or where the first line is a row, by its URL."""
    delimiters = "\t,;|" if file.suffix.lower() == ".tsv" else ",\t;|"
    for delimiter in delimiters:
        names = _unique(next(csv.reader([head], delimiter=delimiter), []))
        if {plain_name(name) for name in names} & set(URL_NAMES):
            return delimiter, _columns(names, file), names
    for delimiter in delimiters:
        cells = next(csv.reader([head], delimiter=delimiter), [])
        urls = [i for i, cell in enumerate(cells) if _is_url(cell)]
        if len(urls) == 1 and len(cells) <= 2:
            names = ["url" if i == urls[0] else "caption" for i in range(len(cells))]
            return delimiter, _columns(names, file), names
    names = _unique(next(csv.reader([head], delimiter=delimiters[0]), []))
    return delimiters[0], _columns(names, file), names


def _is_url(cell: str) -> bool:
    return cell.strip(' "').lower().startswith(("http://", "https://")) and " " not in cell.strip()


def _unique(names: list[str]) -> list[str]:
    taken: dict[str, int] = {}
    unique = []
    for name in (given.strip() or "column" for given in names):
        taken[name] = taken.get(name, 0) + 1
        unique.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return unique


def _cells(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line number, cells) of each row that is not blank; a sentence in place of the cells of a broken one."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        lines.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first = lines.rewind().rstrip("\r\n")
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            # Paired quotes that the rules forbid are somebody's speech: this line is read as if quotes meant nothing.
            yield start, first.split(delimiter) if first.count('"') % 2 == 0 else str(error)
            continue
        if len(cells) > 1 or any(cell.strip() for cell in cells):
            yield start, cells


# ---------------------------------------------------------------- Parquet


def _parquet(file: Path) -> Iterator[Row]:
    try:
        opened = pq.ParquetFile(file)
        names = list(opened.schema_arrow.names)
    except Exception as error:  # a damaged footer can raise nearly anything
        raise InputError(f"{file}: cannot be read as Parquet: {error}") from None
    columns = _columns(names, file)
    with opened:
        yield from each_row(opened, file.name, BATCH_ROWS, lambda values, where: _row(values, columns, where))
