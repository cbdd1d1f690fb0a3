"""The open shard: pictures that arrived, in a file that is only added to, until they are sealed in Parquet.

A Parquet file is nothing until its footer is written, so a kill would lose what it held. Here each record is whole by
itself, with a checksum; what a kill cut off is dropped when the spool is opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.fetch.ledger import Line, append
from diptych.data.schema import from_row, to_row
from diptych.types import EncodedImage, Sample

_HEAD = struct.Struct("<4sQQQ8s")  # mark, lengths of the lines, of the sample, of its picture, checksum of all three
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
            mark, of_lines, of_sample, of_picture, check = _HEAD.unpack(head)
            end = self.size + _HEAD.size + of_lines + of_sample + of_picture
            if mark != _MARK or end > size:
                break
            body = _read(self._file, self.size + _HEAD.size, end - self.size - _HEAD.size)
            if _checksum(body) != check:
                break
            lines = json.loads(body[:of_lines])
            found.append(Record(self.size, lines[0]["row"], lines))
            self.size = end
        self._file.truncate(self.size)
        self.records = [(record.row, record.place) for record in found]
        return found

    def add(self, lines: list[Line], sample: Sample) -> None:
        """Keep a sample of one picture and the lines that say so, all or nothing."""
        picture = sample.images[0].data or b""
        parts = json.dumps(lines).encode(), json.dumps(to_row(replace(sample, images=[])), default=_coded).encode()
        body = b"".join((*parts, picture))
        record = _HEAD.pack(_MARK, *map(len, parts), len(picture), _checksum(body)) + body
        append(self._file, record, self.size)
        self.records.append((lines[0]["row"], self.size))
        self.size += len(record)

    def samples(self) -> Iterator[Sample]:
        """The samples in the order of their rows."""
        for _, place in sorted(self.records):
            _, of_lines, of_sample, of_picture, _ = _HEAD.unpack(_read(self._file, place, _HEAD.size))
            body = _read(self._file, place + _HEAD.size + of_lines, of_sample + of_picture)
            sample = from_row(json.loads(body[:of_sample], object_hook=_decoded))
            sample.images = [EncodedImage(body[of_sample:])]
            yield sample

    def close(self) -> None:
        self._file.close()


def _read(file: FileIO, place: int, length: int) -> bytes:
    file.seek(place)
    parts = []
    while length and (part := file.read(length)):  # one call reads at most 2 GiB
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _coded(value: bytes) -> dict[str, str]:
    """The bytes of a mask, which JSON does not have."""
    return {"base64": base64.b64encode(value).decode()}


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()
