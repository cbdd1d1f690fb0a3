"""Any Parquet file, or folder of them, with a column of pictures: encoded bytes, Hugging Face structs, or paths.

Columns are told apart by name and type. Rows are streamed, a few at a time; a row group that cannot be read costs its
own rows only.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.formats.rows import (
    IMAGE_NAMES,
    Columns,
    Row,
    Rows,
    choose_columns,
    is_dataset,
    join_path,
    merge_by_picture,
    sample_of,
)
from diptych.data.formats.written import bytes_of
from diptych.data.writer import DatasetWriter
from diptych.images import BadImage
from diptych.types import EncodedImage, InputError, Rejected, Sample

SUFFIXES = (".parquet", ".pq")
BATCH_ROWS = 64


def recognise(path: Path) -> bool:
    """Whether `path` is a Parquet file, or a folder that holds one with pictures."""
    if path.is_dir():
        return any(holds_pictures(file) for file in listing(path))
    if path.suffix.lower() in SUFFIXES or not path.is_file():
        return path.is_file()
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def listing(path: Path) -> Iterator[Path]:
    """The Parquet files, in order, without hidden ones and those of Diptych datasets that lie below."""
    if path.is_file():
        return iter([path])
    files = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return iter(sorted(file for file in files if not _hidden(file.relative_to(path)) and not is_dataset(file.parent)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read(path: Path) -> Rows:
    """All rows of all files. Raises `InputError` if the first readable file has no column of pictures."""
    root = path if path.is_dir() else path.parent
    files = list(listing(path))
    first = None
    total = 0
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except Exception as error:  # a damaged footer can raise nearly anything
            if len(files) == 1:
                raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
            continue
        total += parquet.metadata.num_rows
        first = first or (file, _columns(parquet.schema_arrow, file))
    if first is None:
        raise InputError(f"{path}: none of its {len(files)} Parquet files can be read")
    columns, kind = first[1]
    items: Iterator[Row] = (row for file in files for row in _rows(file, root))
    merged = 0
    if kind == "path":  # no bytes in memory, so that rows of one picture can be brought together
        listed, merged = merge_by_picture(items)
        items, total = iter(listed), len(listed)
    return Rows(f"Parquet, {len(files)} files, {total:,} rows ({columns}, as {kind})", items, total, merged)


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write a Diptych dataset: Parquet that Hugging Face `datasets`, DuckDB and Polars read as it is."""
    with DatasetWriter(folder) as writer:
        for sample in samples:
            try:
                images = [EncodedImage(bytes_of(image), image.path) for image in sample.images]
            except BadImage as error:
                writer.reject(Rejected(sample.id, error.reason, error.detail))
            else:
                writer.write(replace(sample, images=images))
    return dict(writer.rejected)


def holds_pictures(file: Path) -> bool:
    """Whether a Parquet file has a column of pictures."""
    try:
        _columns(pq.read_schema(file), file)
    except Exception:  # damaged, or about something else
        return False
    return True


def _columns(schema: Any, file: Path) -> tuple[Columns, str]:
    """The parts of the columns, and how pictures are held: "bytes", "struct" or "path"."""
    kinds = {field.name: kind for field in schema if (kind := _kind(field.type)) is not None}
    order = [name for known in IMAGE_NAMES for name in kinds if name.casefold() == known]
    order = [n for n in order if kinds[n] != "path"] + [n for n, kind in kinds.items() if kind == "struct"] + order
    order += [name for name, kind in kinds.items() if kind == "bytes"]
    columns = choose_columns(schema.names, order[0]) if order else None
    if columns is None:
        raise InputError(
            f"{file}: no column holds pictures; expected bytes, a struct of bytes and path, or paths in a column "
            f"called image, path or alike; found {', '.join(schema.names)}"
        )
    captions = (*columns.captions, *columns.numbered)
    wrong = [field for field in schema if field.name in captions and not _is_text(field.type)]
    if wrong and len(wrong) == len(captions):
        raise InputError(
            f"{file}: column '{wrong[0].name}': expected text or lists of texts as captions, got {wrong[0].type}"
        )
    return columns, kinds[columns.image]


def _is_text(type: Any) -> bool:
    return bool(pa.types.is_null(type)) or _kind(type) == "path"


def _kind(type: Any) -> str | None:
    """How a column of this type can hold a picture: itself or as a list of several."""
    if pa.types.is_dictionary(type):
        type = type.value_type
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        type = type.value_type
    if pa.types.is_struct(type):
        names = {type.field(i).name: type.field(i).type for i in range(type.num_fields)}
        held = names.get("bytes")
        return "struct" if held is not None and (_kind(held) == "bytes" or pa.types.is_null(held)) else None
    if pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type):
        return "bytes"
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return "path"
    return None


def _rows(file: Path, root: Path) -> Iterator[Row]:
    where = file.relative_to(root).as_posix()
    try:
        parquet = pq.ParquetFile(file)
        columns, _ = _columns(parquet.schema_arrow, file)
    except Exception as error:
        yield Rejected(where, "file broken", f"{file}: {error}")
        return
    folder = posixpath.dirname(where)
    with parquet:
        yield from each_row(parquet, where, BATCH_ROWS, lambda values, own: _row(values, columns, folder, own))


def each_row(parquet: Any, where: str, batch_rows: int, make: Callable[[dict[str, Any], str], Row]) -> Iterator[Row]:
    """What `make` gives for each row and its name, "where#7"; the rows of a row group that is damaged are rejected."""
    number = 0
    for group in range(parquet.metadata.num_row_groups):
        end = number + parquet.metadata.row_group(group).num_rows
        try:
            for batch in parquet.iter_batches(batch_rows, row_groups=[group]):
                for values in plain_rows(batch):
                    yield make(values, f"{where}#{number}")
                    number += 1
        except Exception as error:  # damaged pages can raise nearly anything
            for lost in range(number, end):
                yield Rejected(f"{where}#{lost}", "row broken", f"row group {group}: {error}")
        number = end


def plain_rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow batch; text that is not UTF-8 keeps its bytes as surrogates, for the caller to reject."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:  # Parquet does not promise that its text is UTF-8
        columns = {name: _decoded(batch.column(name)) for name in batch.schema.names}
        return [{name: values[i] for name, values in columns.items()} for i in range(batch.num_rows)]


def _decoded(column: Any) -> list[Any]:
    values = []
    for value in column:
        try:
            values.append(value.as_py())
        except UnicodeDecodeError:
            values.append(_surrogates(value))
    return values


def _surrogates(value: Any) -> Any:
    if isinstance(value, pa.ListScalar):
        return [_surrogates(entry) for entry in value.values]
    if isinstance(value, pa.StructScalar):
        return {name: _surrogates(entry) for name, entry in value.items()}
    buffer = getattr(value, "as_buffer", lambda: None)()
    return value.as_py() if buffer is None else buffer.to_pybytes().decode("utf-8", "surrogateescape")


def _row(values: dict[str, Any], columns: Columns, folder: str, where: str) -> Row:
    held = values.get(columns.image)
    images = []
    for one in held if isinstance(held, list) else [held]:
        data = one.get("bytes") if isinstance(one, dict) else one if isinstance(one, bytes) else None
        path = one.get("path") if isinstance(one, dict) else one if isinstance(one, str) else None
        if data is None and path:
            path = join_path(folder, path)
        if data is not None or path:
            images.append(EncodedImage(data, path or None))
    if not images:
        return Rejected(where, "image missing", f"{where}: {columns.image} is empty")
    return sample_of(values, columns, images, where)
