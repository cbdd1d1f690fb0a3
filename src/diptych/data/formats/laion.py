"""Tables of URLs and texts in Parquet, without pictures: LAION, DataComp, COYO, and what is like them.

The columns of the URL, the text and the rest go by name, in any case: `URL`/`url`, `TEXT`/`caption`, `uid`, `LICENSE`.
Columns of numbers (`similarity`, `punsafe`, `WIDTH`) become scores. Rows are streamed: a table may have any number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.formats import parquet
from diptych.data.formats.rows import FIELD_NAMES, Columns, Row, Rows, choose_columns, plain_name, sample_of
from diptych.types import InputError, Rejected, Sample

BATCH_ROWS = 8192
NAMING = ("hash", "id", "key")  # what the name of a whole-number column ends with that names a row and measures nothing


def recognise(path: Path) -> bool:
    """Whether a Parquet file, or the first of those right in a folder, has a URL and a text and no pictures."""
    if path.is_dir():
        first = next(iter(sorted(file for file in path.iterdir() if file.suffix.lower() in parquet.SUFFIXES)), None)
        return first is not None and recognise(first)
    try:
        if not parquet.recognise(path) or parquet.holds_pictures(path):
            return False
        _columns(pq.read_schema(path), path)
    except Exception:  # damaged, or about something else
        return False
    return True


def read(path: Path) -> Rows:
    """A row without pictures for each row of all files. Raises `InputError` if no file has a URL and a text."""
    files = list(parquet.listing(path))
    root = path if path.is_dir() else path.parent
    total, known = 0, None
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                total += opened.metadata.num_rows
                known = known or _columns(opened.schema_arrow, file)
        except InputError:
            raise
        except Exception as error:  # a damaged footer can raise nearly anything
            if len(files) == 1:
                raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
    if known is None:
        raise InputError(f"{path}: none of its {len(files)} Parquet files can be read")
    items = (row for file in files for row in _rows(file, root))
    found = f"a table of {total:,} URLs in {len(files)} Parquet files (URL: '{known[0].image}')"
    return Rows(found, items, total)


def listing(path: Path) -> Iterator[Path]:
    """The Parquet files."""
    return parquet.listing(path)


def _columns(schema: Any, file: Path) -> tuple[Columns, list[str], str | None]:
    """The parts of the columns, the URL being where other formats have the picture; those of scores; LAION's own id."""
    plain = {plain_name(name): name for name in schema.names}
    url = next((plain[name] for name in FIELD_NAMES["url"] if name in plain), None)
    columns = choose_columns(schema.names, url) if url is not None else None
    if columns is None or not (columns.captions or columns.numbered):
        raise InputError(
            f"{file}: expected a column of URLs (url, image_url) and one of texts (text, caption); "
            f"found {', '.join(schema.names)}"
        )
    scores = [name for name in columns.side if _measures(schema.field(name))]
    own_id = plain.get("sample_id") if "id" not in columns.fields else None
    side = tuple(name for name in columns.side if name not in scores and name != own_id)
    return replace(columns, side=side), [name for name in scores if name != own_id], own_id


def _measures(field: Any) -> bool:
    if pa.types.is_integer(field.type):
        return not plain_name(field.name).endswith(NAMING)
    return bool(pa.types.is_floating(field.type))


def _rows(file: Path, root: Path) -> Iterator[Row]:
    where = file.relative_to(root).as_posix()
    try:
        opened = pq.ParquetFile(file)
        columns, scores, own_id = _columns(opened.schema_arrow, file)
    except Exception as error:
        yield Rejected(where, "file broken", f"{file}: {error}")
        return
    with opened:
        make = partial(_row, columns=columns, scores=scores, own_id=own_id)
        yield from parquet.each_row(opened, where, BATCH_ROWS, make)


def _row(values: dict[str, Any], where: str, columns: Columns, scores: list[str], own_id: str | None) -> Row:
    url = values.get(columns.image)
    id = values.get(own_id) if own_id is not None else None
    if id is not None:
        where = str(int(id) if isinstance(id, float) and id.is_integer() else id)
    if not isinstance(url, str) or not url.strip():
        return Rejected(where, "url missing", f"{where}: {columns.image}")
    row = sample_of(values, columns, [], where)
    if isinstance(row, Sample):
        row.url = url.strip()
        found = {name: values[name] for name in scores}
        row.scores = {name: float(v) for name, v in found.items() if v is not None and math.isfinite(v)}
    return row
