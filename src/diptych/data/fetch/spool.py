"""The open shard: pictures that arrived, in a file that is only added to, until they are sealed in Parquet.

A Parquet file is nothing until its footer is written, so a kill would lose what it held. Here each record is whole by
itself, with a checksum; what a kill cut off is dropped when the spool is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from diptych.data.fetch.ledger import Line, append
from diptych.data.schema import SCHEMA, from_row, to_row
from diptych.types import Sample

_HEAD = struct.Struct("<4sQQ8s")  # mark, length of the lines, length of the sample, checksum of both
_MARK = b"DSP1"


class Record(NamedTuple):
    """Where a record lies, the row that it begins with, and the lines of the log that it stands for."""

    place: int
    row: int
    lines: list[Line]


class Spool:
    """The open shard `number`."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.path = folder / f"spool-{number:05d}"
        self._file = self.path.open("a+b", buffering=0)
        self.records: list[tuple[int, int]] = []  # (row, place)
        self.size = 0

    def recover(self) -> list[Record]:
        """The whole records that an earlier run left; the rest of the file is cut off."""
        found = []
        size = self._file.seek(0, os.SEEK_END)
        while len(head := _read(self._file, self.size, _HEAD.size)) == _HEAD.size:
            mark, of_lines, of_sample, check = _HEAD.unpack(head)
            end = self.size + _HEAD.size + of_lines + of_sample
            if mark != _MARK or end > size:
                break
            body = _read(self._file, self.size + _HEAD.size, of_lines + of_sample)
            if _checksum(body) != check:
                break
            lines = json.loads(body[:of_lines])
            found.append(Record(self.size, lines[0]["row"], lines))
            self.size = end
        self._file.truncate(self.size)
        self.records = [(record.row, record.place) for record in found]
        return found

    def add(self, lines: list[Line], sample: Sample) -> None:
        """Keep a sample and the lines that say so, all or nothing."""
        note = json.dumps(lines).encode()
        body = note + pa.RecordBatch.from_pylist([to_row(sample)], schema=SCHEMA).serialize().to_pybytes()
        record = _HEAD.pack(_MARK, len(note), len(body) - len(note), _checksum(body)) + body
        append(self._file, record)
        self.records.append((lines[0]["row"], self.size))
        self.size += len(record)

    def samples(self) -> Iterator[Sample]:
        """The samples in the order of their rows."""
        for _, place in sorted(self.records):
            _, of_lines, of_sample, _ = _HEAD.unpack(_read(self._file, place, _HEAD.size))
            body = _read(self._file, place + _HEAD.size + of_lines, of_sample)
            batch: Any = pa.ipc.read_record_batch(pa.py_buffer(body), SCHEMA)
            yield from_row(batch.to_pylist()[0])

    def close(self) -> None:
        self._file.close()


def _read(file: FileIO, place: int, length: int) -> bytes:
    file.seek(place)
    parts = []
    while length and (part := file.read(length)):  # one call reads at most 2 GiB
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()
