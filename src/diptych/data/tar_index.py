"""Where the members of a tar file lie: its headers are walked through once, its data is seeked over.

An index is kept in the cache and made again when the file's size or time has changed. Members of one key (WebDataset's
rule: the path up to the first dot of its last part) belong together wherever they stand in the file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diptych.paths import cache_dir
from diptych.types import InputError, Rejected

log = logging.getLogger("diptych")

INDEX_VERSION = 1  # raised when the same file would be indexed otherwise
BLOCK = 512
WINDOW = 3 * BLOCK  # a PAX header, its contents, and the header that it is for
MAX_HEADER_DATA = 1 << 20  # a long name or a PAX header; what claims to be longer is damage
AFTER_END = 1 << 20  # bytes behind the end mark that are looked at
OPEN_FILES = 256
SCAN_THREADS = 16

_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_SKIPPED = re.compile(r"__[^/]*__($|/)")  # WebDataset's own metadata
_SPACES = sum(b" " * 8)
_ADLER = 65521
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("suffix", pa.list_(pa.string())),
        ("offset", pa.list_(pa.int64())),
        ("size", pa.list_(pa.int64())),
    ]
)


class Member(NamedTuple):
    """A file within a tar: the name after the key ("jpg", "left.png"), and where its bytes are."""

    suffix: str
    offset: int
    size: int


class TarIndex:
    """The keys of one tar file, in order of first appearance, and the members of each.

    Attributes:
        path: the tar file.
        keys: an Arrow array of text.
        rejected: what could not be indexed, and why.
        stamp: size and time of the file as indexed, and a hash of the index.
    """

    def __init__(self, path: Path, table: Any, note: dict[str, Any]) -> None:
        table = table.combine_chunks()
        self.path = path
        self.keys = _array(table, "key")
        self.rejected = [Rejected(*row) for row in note["rejected"]]
        self.size, self.time = int(note["size"]), int(note["time"])
        self.stamp = f"{self.size} {self.time} {note['hash']}"
        lists = _array(table, "suffix")
        self._starts = lists.offsets.to_numpy()
        codes = pc.dictionary_encode(lists.flatten())
        self._suffixes: list[str] = codes.dictionary.to_pylist()
        self._codes = codes.indices.to_numpy()
        self._offsets = _array(table, "offset").flatten().to_numpy()
        self._sizes = _array(table, "size").flatten().to_numpy()

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, row: int) -> list[Member]:
        """The members of a key, in the file's order."""
        cut = slice(self._starts[row], self._starts[row + 1])
        suffixes = [self._suffixes[code] for code in self._codes[cut].tolist()]
        return list(map(Member, suffixes, self._offsets[cut].tolist(), self._sizes[cut].tolist()))

    @property
    def suffixes(self) -> list[str]:
        """All that occur."""
        return self._suffixes


def open_indexes(paths: list[Path]) -> list[TarIndex]:
    """The index of each tar file, from the cache or made now, several at a time.

    Raises:
        InputError: a file that is missing or compressed. One that is no tar is an empty index with its reason.
    """
    with ThreadPoolExecutor(min(SCAN_THREADS, max(len(paths), 1)), thread_name_prefix="tar-index") as pool:
        return list(pool.map(open_index, paths))


def open_index(path: Path) -> TarIndex:
    """The index of one tar file; see `open_indexes`."""
    status = _status(path)
    place = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=16).hexdigest()
    kept = cache_dir() / "tar-index" / f"{place}.arrow"
    wanted = [INDEX_VERSION, status.st_size, status.st_mtime_ns]
    try:
        with pa.memory_map(str(kept)) as source:
            table = pa.ipc.open_file(source).read_all()
        note = json.loads(table.schema.metadata[b"note"])
        if [note["version"], note["size"], note["time"]] == wanted:
            return TarIndex(path, table, note)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        pass
    try:
        table, rejected = build(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    digest = hashlib.blake2b(digest_size=16)
    for batch in table.to_batches():
        digest.update(batch.serialize())
    note = {
        "version": INDEX_VERSION,
        "size": status.st_size,
        "time": status.st_mtime_ns,
        "rejected": rejected,
        "hash": digest.hexdigest(),
    }
    _keep(kept, table.replace_schema_metadata({b"note": json.dumps(note).encode()}))
    return TarIndex(path, table, note)


def build(path: Path) -> tuple[Any, list[Rejected]]:
    """Walk through a tar file's headers and group its members by key. Raises `InputError` if it is compressed."""
    rows: dict[str, list[Member]] = {}
    last: dict[str, str] = {}  # key -> the key of its newest row; they differ once a name has come twice
    repeats: dict[str, int] = {}  # key -> the number of its newest row
    seen: set[tuple[str, str]] = set()
    rejected: list[Rejected] = []
    for found in walk(path):
        if isinstance(found, Rejected):
            rejected.append(found)
            continue
        name, offset, size = found
        match = _KEY.fullmatch(name)
        if match is None or _SKIPPED.match(name):
            continue
        key, suffix = match[1], match[2].lower()
        row = last.get(key, key)
        if (row, suffix) in seen:  # the same name once more: another sample, as if the tar had been written twice
            n = repeats.get(key, 1) + 1
            while f"{key}#{n}" in rows:
                n += 1
            repeats[key], row = n, f"{key}#{n}"
            last[key] = row
        seen.add((row, suffix))
        rows.setdefault(row, []).append(Member(suffix, offset, size))
    columns = [
        list(rows),
        *([[member[part] for member in members] for members in rows.values()] for part in range(3)),
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA)]
    return pa.table(arrays, schema=_SCHEMA), rejected


# ---------------------------------------------------------------- the tar format


def walk(path: Path) -> Iterator[tuple[str, int, int] | Rejected]:
    """(name, offset, size) of each regular file in a tar, by reading its headers only.

    Understands ustar, GNU (long names) and PAX (path and size). A sparse file or a link is rejected by itself. Where
    the file is cut short or a header is damaged, what stands before is kept and the rest is one `Rejected`.

    Raises:
        InputError: the file is compressed.
    """
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        if hasattr(os, "posix_fadvise"):  # else the system reads ahead over the data between two headers
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        end = os.fstat(descriptor).st_size
        head = os.pread(descriptor, BLOCK, 0)
        for signature, name in _COMPRESSED.items():
            if head.startswith(signature):
                raise InputError(f"{path}: is compressed with {name}; decompress it, since members are read in place")
        yield from _walk(_Window(descriptor), end, path.name)


class _Window:
    """Reads a file here and there; the next header often lies right behind the last, as PAX writes them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0
        self._data = b""

    def read(self, at: int, size: int) -> bytes:
        start = at - self._at
        if start < 0 or start + size > len(self._data):
            self._data = os.pread(self._descriptor, max(size, WINDOW), at)
            self._at, start = at, 0
        return self._data[start : start + size]


def _walk(window: _Window, end: int, shard: str) -> Iterator[tuple[str, int, int] | Rejected]:
    at = 0
    long_name: str | None = None
    extended: dict[str, str] = {}
    while True:
        header = window.read(at, BLOCK)
        if len(header) < BLOCK:
            yield Rejected(shard, "file truncated", f"{shard}: ends at byte {end:,} without the mark of a tar's end")
            return
        if not header[0] and header.count(0) == BLOCK:
            if window.read(at, AFTER_END).strip(b"\0"):
                yield Rejected(shard, "data after the end", f"{shard}: more follows the end mark at byte {at:,}")
            return
        size = _number(header[124:136])
        if size is None or not _sound(header):
            yield Rejected(shard, "file broken", f"{shard}: a damaged header at byte {at:,}; what follows is lost")
            return
        kind, start = header[156:157], at + BLOCK
        if kind in b"LKxg":
            data = window.read(start, size) if size <= MAX_HEADER_DATA else b""
            if len(data) < size:
                yield Rejected(shard, "file truncated", f"{shard}: ends within a header at byte {at:,}")
                return
            if kind == b"L":
                long_name = _text(data.split(b"\0", 1)[0])
            elif kind == b"x":
                extended = _pax(data)
            at = start + _padded(size)
            continue
        name = extended.get("path") or long_name or _name(header)
        sparse = kind == b"S" or any(field.startswith("GNU.sparse.") for field in extended)
        size = int(extended["size"]) if extended.get("size", "").isdigit() else size
        long_name, extended = None, {}
        if kind == b"S":  # its map may go on in blocks of its own
            more = header[482]
            while more:
                more = window.read(start, BLOCK)[504:505] == b"\1"
                start += BLOCK
        if kind in b"123456":  # links, devices, folders: their size is nominal
            size = 0
        if start + size > end:
            detail = f"{shard}: ends at byte {end:,}, within {name}, which should reach byte {start + size:,}"
            yield Rejected(shard, "file truncated", detail)
            return
        if sparse or kind in b"12":
            what = "is a sparse file" if sparse else "is a link"
            yield Rejected(f"{shard}/{name}", "member not supported", f"{shard}: {name} {what}")
        elif kind in b"0\x007" and not name.endswith("/"):
            yield name.removeprefix("./"), start, size
        at = start + _padded(size)


def _sound(header: bytes) -> bool:
    """Whether the header's checksum holds: the sum of its bytes, with spaces for itself; old programs sum them signed.

    The low half of Adler-32 is 1 + that sum modulo a prime: as telling, and ten times as fast as a sum in Python.
    """
    wanted = _number(header[148:156])
    if wanted is None:
        return False
    whole = wanted + sum(header[148:156]) - _SPACES
    if (zlib.adler32(header) & 0xFFFF) == (whole + 1) % _ADLER:
        return True
    return whole == sum(header) - 256 * sum(byte > 127 for byte in header)


def _number(field: bytes) -> int | None:
    """Octal digits, or base 256 where the first bit is set; None if neither."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return value if field[0] == 0x80 else None  # 0xff: negative
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return None


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name)


def _text(data: bytes) -> str:
    """A name as valid Unicode; what is not UTF-8 is mended with "?"."""
    return data.decode("utf-8", "replace").replace("\ufffd", "?")


def _pax(data: bytes) -> dict[str, str]:
    """The fields of a PAX header: "LENGTH name=value\\n" one after the other."""
    fields = {}
    at = 0
    while (space := data.find(b" ", at)) > 0 and data[at:space].isdigit():
        length = int(data[at:space])
        name, _, value = data[space + 1 : at + length - 1].partition(b"=")
        fields[_text(name)] = _text(value)
        at += max(length, 1)
    return fields


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


# ---------------------------------------------------------------- reading


class Files:
    """Open files, the last few, shared by threads. One that is dropped closes when its last reader lets go of it."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, index: TarIndex) -> _File:
        """Raises `InputError` if the file is gone or has changed since it was indexed."""
        with self._lock:
            if index.path in self._open:
                self._open.move_to_end(index.path)
                return self._open[index.path]
        file = _File(index)
        with self._lock:
            self._open[index.path] = file
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return file


class _File:
    def __init__(self, index: TarIndex) -> None:
        self._descriptor = -1
        status = _status(index.path)
        if (status.st_size, status.st_mtime_ns) != (index.size, index.time):
            raise InputError(f"{index.path}: has changed since it was opened; open the dataset again")
        self._descriptor = os.open(index.path, os.O_RDONLY)

    def read(self, members: list[Member]) -> list[bytes]:
        """The members' bytes, by one system call where they lie together. Shorter ones mean that the file was cut."""
        if not members:
            return []
        first = min(member.offset for member in members)
        span = max(member.offset + member.size for member in members) - first
        if span > sum(member.size for member in members) + 2 * BLOCK * len(members):
            return [os.pread(self._descriptor, member.size, member.offset) for member in members]
        data = os.pread(self._descriptor, span, first)
        return [data[member.offset - first : member.offset - first + member.size] for member in members]

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone when the interpreter ends
        if self._descriptor >= 0:
            close(self._descriptor)


def _status(path: Path) -> os.stat_result:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _array(table: Any, name: str) -> Any:
    """A column as one array."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _keep(path: Path, table: Any) -> None:
    """Write the index so that it appears whole; a cache that cannot be written costs time only."""
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        part.replace(path)
    except OSError as error:
        log.warning("%s: the index is not kept: %s", path, error)
        with suppress(OSError):
            part.unlink()
