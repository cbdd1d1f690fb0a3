"""Rows that live in Parquet files of the store's schema, or of an earlier version of it.

Files are memory-mapped. A random read decodes one small row group; the last ones stay in memory. Threads may read.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.schema import SCHEMA, from_row, is_ours
from diptych.data.writer import METADATA_KEY
from diptych.types import InputError, Sample

Rows = np.ndarray[Any, np.dtype[np.int64]]

CACHE_BYTES = 256 << 20  # row groups kept in memory, for one opened dataset and all its views


class Shard:
    """One Parquet file: its footer is read on first use, its pages are mapped."""

    def __init__(self, path: Path, rows: int | None = None) -> None:
        self.path = path
        self._rows = rows
        self._local = threading.local()
        self._metadata: Any = None
        self._starts: list[int] | None = None

    @property
    def rows(self) -> int:
        if self._rows is None:
            self._rows = int(self.metadata.num_rows)
        return self._rows

    @property
    def metadata(self) -> Any:
        if self._metadata is None:
            self._metadata = self.open(None).metadata
        return self._metadata

    @property
    def columns(self) -> frozenset[str]:
        """The fields that this file has; one of an earlier version has fewer."""
        return frozenset(self.reader.schema_arrow.names)

    @property
    def starts(self) -> list[int]:
        """The first row of each row group."""
        if self._starts is None:
            sizes = [self.metadata.row_group(g).num_rows for g in range(self.metadata.num_row_groups)]
            self._starts = [0, *np.cumsum(sizes).tolist()][:-1]
        return self._starts

    @property
    def reader(self) -> Any:
        """A reader of this thread: one reader is not to be shared, the parsed footer is."""
        if not hasattr(self._local, "reader"):
            self._local.reader = self.open(self.metadata)
        return self._local.reader

    def open(self, metadata: Any) -> Any:
        """A reader of the file. Raises `InputError` if it is not Parquet."""
        try:
            return pq.ParquetFile(pa.memory_map(str(self.path)), metadata=metadata)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: expected a Parquet file of a Diptych dataset: {error}") from None


class ParquetStore:
    """The files of a dataset and the row groups that are in memory; shared by all views. See `store.Store`."""

    def __init__(self, shards: list[Shard], base: Path) -> None:
        self.shards = shards
        self.base = base
        self.starts: list[int] = [0, *np.cumsum([shard.rows for shard in shards], dtype=np.int64).tolist()]
        self._cache: OrderedDict[tuple[int, int, tuple[str, ...]], Any] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def of_file(cls, path: Path) -> ParquetStore:
        """One Parquet file. Raises `InputError` if its columns are not ours."""
        shard = Shard(path)
        if not is_ours(shard.open(None).schema_arrow):
            raise InputError(f"{path}: the columns are not those of a Diptych dataset; import it first")
        return cls([shard], path.parent)

    def __len__(self) -> int:
        return self.starts[-1]

    def take(self, rows: Rows, fields: Collection[str]) -> list[Sample]:
        """The samples at `rows`, in that order; each row group is read once."""
        wanted: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for position, row in enumerate(rows.tolist()):
            shard, group, at = self._locate(row)
            wanted.setdefault((shard, group), []).append((position, at))
        samples: list[Sample | None] = [None] * len(rows)
        for (shard, group), places in wanted.items():
            table = self._group(shard, group, self._columns(shard, fields))
            if len(places) > 1:
                found = table.take(pa.array([at for _, at in places])).to_pylist()
            else:
                found = table.slice(places[0][1], 1).to_pylist()
            for (position, _), row in zip(places, found):
                samples[position] = self._sample(row)
        return [sample for sample in samples if sample is not None]

    def table(self, rows: Rows | None, fields: Collection[str]) -> Any:
        """Some fields of the rows (None: of all) as an Arrow table in `SCHEMA`'s types.

        Only the row groups that hold a wanted row are read.
        """
        names = [name for name in SCHEMA.names if name in fields]
        schema = pa.schema([SCHEMA.field(name) for name in names])
        parts, read = [schema.empty_table()], 0
        places = np.zeros(0 if rows is None else len(rows), dtype=np.int64)  # of the rows within what is read
        owner = None if rows is None else np.searchsorted(self.starts, rows, side="right") - 1
        for number, shard in enumerate(self.shards):
            groups = list(range(len(shard.starts))) if rows is None else []
            if rows is not None and len(mine := np.flatnonzero(owner == number)):
                inner, starts = rows[mine] - self.starts[number], np.array(shard.starts)
                touched, of = np.unique(np.searchsorted(starts, inner, side="right") - 1, return_inverse=True)
                groups = touched.tolist()
                sizes = [shard.metadata.row_group(group).num_rows for group in groups]
                before = read + np.cumsum([0, *sizes])
                places[mine] = before[of] + inner - starts[touched][of]
                read = int(before[-1])
            if groups:
                parts.append(_widened(self._read(number, groups, self._columns(number, fields)), schema))
        table = pa.concat_tables(parts)
        return table if rows is None else table.take(pa.array(places))

    def fingerprint(self) -> str:
        """A hash of the contents: equal for equal data wherever it lies."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            note = (shard.metadata.metadata or {}).get(METADATA_KEY)
            if note is None:  # written by another program in our schema
                with shard.path.open("rb") as file:
                    note = hashlib.file_digest(file, "blake2b").digest()
            digest.update(note)
        return digest.hexdigest()

    def _columns(self, shard: int, fields: Collection[str]) -> tuple[str, ...]:
        present = self.shards[shard].columns
        return tuple(name for name in SCHEMA.names if name in fields and name in present)

    def _locate(self, row: int) -> tuple[int, int, int]:
        """Shard, row group, and row within the group, of a row of the whole dataset."""
        shard = bisect_right(self.starts, row) - 1
        row -= self.starts[shard]
        starts = self.shards[shard].starts
        group = bisect_right(starts, row) - 1
        return shard, group, row - starts[group]

    def _group(self, shard: int, group: int, columns: tuple[str, ...]) -> Any:
        key = (shard, group, columns)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        table = self._read(shard, [group], columns)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = table
                self._cache_bytes += table.nbytes
                while self._cache_bytes > CACHE_BYTES and len(self._cache) > 1:
                    self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return table

    def _read(self, shard: int, groups: list[int], columns: tuple[str, ...]) -> Any:
        file = self.shards[shard]
        try:
            return file.reader.read_row_groups(groups, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            which = f"row group {groups[0]}" if len(groups) == 1 else f"one of {len(groups)} row groups"
            raise InputError(f"{file.path}: {which} cannot be read: {error}") from None

    def _sample(self, row: dict[str, Any]) -> Sample:
        sample = from_row(row)
        for image in sample.images:
            if image.data is None and image.path and "://" not in image.path:
                image.path = str(self.base / image.path)
        return sample


def _widened(table: Any, schema: Any) -> Any:
    """A table of an earlier version of the schema with the fields that it lacks, all null."""
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name not in table.schema.names:
            columns.append(pa.nulls(len(table), field.type))
        elif table.schema.field(field.name).type.equals(field.type):
            columns.append(table.column(field.name))
        else:  # a struct that has grown: rebuilt row by row, which only old files pay for
            columns.append(pa.array(table.column(field.name).to_pylist(), field.type))
    return pa.table(columns, schema=schema)
