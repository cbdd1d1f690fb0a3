"""WebDataset shards as a dataset, where they lie: any sample by one read of a tar file.

The members of one key are one sample: pictures by their suffix, in the file's order; `.txt` a caption, `.cls` the
label, `.json` fields by the names that tables use (see `formats/rows.py`). In shards that Diptych wrote the JSON is the
complete sample.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.formats.records import BadRow
from diptych.data.formats.rows import Columns, Row, choose_columns, decode_text, sample_of, valid
from diptych.data.schema import SCHEMA, from_row
from diptych.data.shards import shards_of
from diptych.data.store import Dataset, Rows, table_of
from diptych.data.tar_index import Files, Member, TarIndex, open_indexes
from diptych.types import EncodedImage, InputError, Rejected, Sample

log = logging.getLogger("diptych")

KINDS = {  # what a member is, by the last part of its name
    "image": frozenset(
        ("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "ppm", "pgm", "qoi", "ico")
    ),
    "text": frozenset(("txt", "text", "caption")),
    "label": frozenset(("cls", "class")),
    "json": frozenset(("json", "jsn")),
}
MARK = "diptych"  # the field by which a JSON says that it is a complete sample, and of which version
TABLE_ROWS = 512  # samples in memory while a table is made

_PICTURE = "\0picture"  # stands for the members where the rules of tables ask for a column of pictures
_JSON_FIELDS = frozenset(SCHEMA.names) - {"id", "images"}


def open_shards(pattern: str, options: Mapping[str, str]) -> Dataset:
    """The dataset of "wds:PATTERN"; see `shards_of` for patterns.

    Raises:
        InputError: a shard is missing or compressed, or none of them holds a sample.
    """
    for option in options:
        raise InputError(f"wds: no option '{option}'; it has none")
    paths = shards_of(pattern)
    store = TarStore(open_indexes(paths))
    if not len(store):
        reason = f": {store.rejected[0].detail}" if store.rejected else ""
        raise InputError(f"{pattern}: expected tar files with members like 0001.jpg and 0001.txt{reason}")
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    rejected = dict(Counter(row.reason for row in store.rejected).most_common())
    card = {
        "read_as": "wds",
        "source": pattern,
        "rows": len(store),
        "rejected": rejected,
        "shards": [{"file": str(index.path), "rows": len(index)} for index in store.indexes],
    }
    log.info("%s: WebDataset, %d shards, %d samples", pattern, len(paths), len(store))
    for row in store.rejected:
        log.warning("%s: %s", row.reason, row.detail)
    name = paths[0].stem if len(paths) == 1 else folder.name
    return Dataset(store, name, folder, card, address=f"wds:{pattern}")


class TarStore:
    """The samples of some tar files. See `store.Store`; threads may read at once.

    A sample that cannot be read as a whole comes with what could be read, and stands in `rejected` from then on.

    Attributes:
        indexes: one a file.
        rejected: what the indexes left out, and the bad samples met so far.
    """

    def __init__(self, indexes: list[TarIndex]) -> None:
        self.indexes = indexes
        self.rejected = [row for index in indexes for row in index.rejected]
        self._starts = list(itertools.accumulate(map(len, indexes), initial=0))
        self._files = Files()
        self._ours: dict[int, bool] = {}
        self._bad: set[int] = set()
        self._lock = threading.Lock()
        self._prefixes = self._distinct()

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, rows: Rows, fields: Collection[str]) -> list[Sample]:
        """The samples at `rows`, in that order; of each only the members are read that `fields` need."""
        samples = []
        for row in rows.tolist():
            sample, rejected = self._sample(row, fields)
            samples.append(sample)
            if rejected is not None:
                with self._lock:
                    if row not in self._bad:
                        self._bad.add(row)
                        self.rejected.append(rejected)
                        log.warning("%s: %s", rejected.reason, rejected.detail)
        return samples

    def rows(self) -> Iterator[Row]:
        """All samples in order, each whole or rejected, after what the indexes left out."""
        yield from [row for index in self.indexes for row in index.rejected]
        for row in range(len(self)):
            sample, rejected = self._sample(row, SCHEMA.names)
            yield sample if rejected is None else rejected

    def table(self, rows: Rows | None, fields: Collection[str]) -> Any:
        """Some fields of the rows (None: of all) as an Arrow table in `SCHEMA`'s types."""
        wanted = np.arange(len(self)) if rows is None else rows
        cuts = range(0, max(len(wanted), 1), TABLE_ROWS)
        return pa.concat_tables([table_of(self.take(wanted[a : a + TABLE_ROWS], fields), fields) for a in cuts])

    def fingerprint(self) -> str:
        """A hash of the shards' sizes, times, and all member names and sizes; the data itself is not read.

        So a copy that did not keep the files' times counts as other data.
        """
        digest = hashlib.blake2b(digest_size=16)
        for index in self.indexes:
            digest.update(f"{index.stamp}\n".encode())
        return digest.hexdigest()

    def _distinct(self) -> list[str]:
        """What ids begin with, per shard: nothing, or the shard's name where two shards have a key in common."""
        keys = pa.chunked_array([index.keys for index in self.indexes], pa.string())
        if not self.indexes or pc.count_distinct(keys).as_py() == len(keys):
            return ["" for _ in self.indexes]
        base = os.path.commonpath([index.path.parent for index in self.indexes])
        return [index.path.relative_to(base).with_suffix("").as_posix() + "/" for index in self.indexes]

    def _sample(self, row: int, fields: Collection[str]) -> tuple[Sample, Rejected | None]:
        """A sample, and why it is not whole, if so."""
        shard = bisect_right(self._starts, row) - 1
        index, at = self.indexes[shard], row - self._starts[shard]
        key, prefix = index.keys[at].as_py(), self._prefixes[shard]
        sample = Sample(id=prefix + key)
        try:
            members = index.members(at)
            if self._is_ours(shard):
                self._read_ours(sample, shard, members, fields)
                sample.id = prefix + sample.id
            else:
                self._read(sample, key, shard, members, fields)
        except BadRow as error:
            return sample, Rejected(sample.id, error.reason, f"{index.path.name}: {key}: {error.detail}")
        return sample, None

    def _read(self, sample: Sample, key: str, shard: int, members: list[Member], fields: Collection[str]) -> None:
        """Fill a sample from the members of a key, as WebDataset users name them."""
        parts = _by_kind(members)
        pictures, texts, labels, jsons = parts["image"], parts["text"], parts["label"], parts["json"][:1]
        have = {"id", "images", *(["captions"] if texts else []), *(["label"] if labels else [])}
        asked = bool(jsons) and not have.issuperset(fields)
        wanted = [("images", pictures), ("captions", texts), ("label", labels)]
        needed = [member for field, some in wanted if field in fields for member in some]
        read = self._bytes(shard, needed + jsons if asked else needed)
        paths = [f"{key}.{member.suffix}" for member in pictures]
        if "images" in fields:
            sample.images = [EncodedImage(read[member], path) for member, path in zip(pictures, paths)]
        if paths and "texts" in fields:
            sample.texts["path"] = paths[0]
        if asked:
            _fill(sample, _object(read[jsons[0]]), paths, fields, captions=not texts)
        if labels and "label" in fields:
            sample.label = _text(read[labels[0]]) or None
        if texts and "captions" in fields:
            sample.captions = [caption for member in texts if (caption := _text(read[member]))]
            if not sample.captions:
                raise BadRow("caption empty", texts[0].suffix)

    def _read_ours(self, sample: Sample, shard: int, members: list[Member], fields: Collection[str]) -> None:
        """Fill a sample from the JSON that Diptych writes and the pictures that it names."""
        jsons = _by_kind(members)["json"]
        pictures = [m for m in members if "images" in fields and kind_of(m.suffix) not in ("json", "text")]
        if not jsons:
            raise BadRow("row broken", "has no JSON")
        read = self._bytes(shard, [*pictures, jsons[0]])
        row = _object(read[jsons[0]])
        by_suffix = {member.suffix: read[member] for member in pictures}
        try:
            images = row.get("images") or [] if "images" in fields else []
            row["images"] = [{"bytes": _named(by_suffix, i.get("member")), "path": i.get("path")} for i in images]
            for thing in row.get("objects") or ():
                if thing["mask"] is not None:
                    thing["mask"]["counts"] = thing["mask"]["counts"].encode("latin-1")
            whole = from_row({name: value for name, value in row.items() if name == "id" or name in fields})
        except BadRow:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRow("row broken", f"not a sample: {type(error).__name__}: {error}") from None
        for name in SCHEMA.names:
            setattr(sample, name, getattr(whole, name))

    def _bytes(self, shard: int, members: list[Member]) -> dict[Member, bytes]:
        try:
            found = self._files.get(self.indexes[shard]).read(members)
        except OSError as error:
            raise BadRow("file unreadable", str(error)) from None
        for member, data in zip(members, found):
            if len(data) < member.size:
                raise BadRow("file truncated", f"{member.suffix} is cut short")
        return dict(zip(members, found))

    def _is_ours(self, shard: int) -> bool:
        """Whether Diptych wrote a shard: its first JSON says so."""
        if shard not in self._ours:
            index = self.indexes[shard]
            jsons = _by_kind(index.members(0))["json"]
            try:
                self._ours[shard] = bool(jsons) and MARK in _object(self._bytes(shard, jsons[:1])[jsons[0]])
            except BadRow:
                self._ours[shard] = False
        return self._ours[shard]


@cache
def kind_of(suffix: str) -> str:
    """What a member is, "" if none of `KINDS`."""
    last = suffix.rpartition(".")[2]
    return next((kind for kind, suffixes in KINDS.items() if last in suffixes), "")


def _by_kind(members: list[Member]) -> dict[str, list[Member]]:
    parts: dict[str, list[Member]] = {"image": [], "text": [], "label": [], "json": [], "": []}
    for member in members:
        parts[kind_of(member.suffix)].append(member)
    return parts


def _named(pictures: dict[str, bytes], member: str | None) -> bytes | None:
    if member is not None and member not in pictures:
        raise BadRow("image missing", f"{member} is not in the shard")
    return None if member is None else pictures[member]


def _text(data: bytes) -> str:
    try:
        text = decode_text(data).strip()
    except UnicodeDecodeError:  # UTF-16 by its mark, and broken
        text = "\udcff"
    if not valid(text):
        raise BadRow("text not UTF-8", "")
    return text


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(decode_text(data))
    except (ValueError, RecursionError) as error:
        raise BadRow("row broken", f"expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRow("row broken", f"expected a JSON object, got {type(value).__name__}")
    return value


def _fill(sample: Sample, values: dict[str, Any], paths: list[str], fields: Collection[str], captions: bool) -> None:
    """Fields of a JSON by the names that tables use; its caption columns become side texts if there are captions."""
    columns = _columns(tuple(values), captions)
    images = [EncodedImage(None, path) for path in paths]
    row = sample_of(values, columns, images, sample.id)
    if isinstance(row, Rejected):
        raise BadRow(row.reason, row.detail)
    if row.id not in (sample.id, paths[0] if paths else ""):
        row.texts.setdefault("id", row.id)
    for name in _JSON_FIELDS.intersection(fields):
        setattr(sample, name, getattr(row, name))


@lru_cache(maxsize=64)
def _columns(names: tuple[str, ...], captions: bool) -> Columns:
    columns = choose_columns((*names, _PICTURE), _PICTURE)
    assert columns is not None  # the column of pictures is given
    if captions:
        return columns
    side = (*columns.side, *columns.captions, *columns.numbered)
    return replace(columns, captions=(), numbered=(), side=tuple(dict.fromkeys(side)))
