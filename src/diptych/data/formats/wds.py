"""WebDataset tar files: told, imported, and written. `data/tar_store.py` reads them in place and says what means what.

Written shards hold, for each sample, its pictures untouched under their true suffix, the first caption as `.txt`, and
the complete sample as `.json`, from which Diptych reads it back.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diptych.data.formats.rows import Rows
from diptych.data.formats.written import bytes_of, suffix_of
from diptych.data.schema import to_row
from diptych.data.shards import shards_of, tars_in
from diptych.data.tar_index import open_index, open_indexes
from diptych.data.tar_store import MARK, TarStore, kind_of
from diptych.data.unique_ids import UniqueIds
from diptych.images import BadImage
from diptych.types import InputError, Sample

VERSION = 1  # of the JSON
SHARD_ROWS = 10_000
SHARD_BYTES = 512 << 20
MAX_KEY = 120  # characters; a longer id is cut and told apart by its hash
PROBED = 8  # samples looked at to tell the format


def recognise(path: Path) -> bool:
    """Whether `path` is a tar, or a folder with tars, whose first samples have a picture and something beside it."""
    try:
        index = open_index(tars_in(path)[0] if path.is_dir() else path) if path.is_dir() or _is_tar(path) else None
    except (InputError, OSError):
        return False
    for row in range(min(len(index or ()), PROBED)):
        kinds = {kind_of(member.suffix) for member in index.members(row)} if index else set()
        if "image" in kinds and kinds & {"text", "label", "json"}:
            return True
    return False


def listing(path: Path) -> Iterator[Path]:
    """The tar files."""
    return iter(shards_of(str(path)))


def read(path: Path) -> Rows:
    """All samples of the tars that `path`, which may be a pattern, stands for. Raises `InputError`: see `shards_of`."""
    store = TarStore(open_indexes(shards_of(str(path))))
    return Rows(f"WebDataset, {len(store.indexes)} shards, {len(store):,} samples", store.rows(), len(store))


def write(samples: Iterable[Sample], folder: Path) -> Mapping[str, int]:
    """Write shards `00000.tar`, ..., each of which appears whole; returns how many samples were left out, by reason.

    Pictures given by path are read; a sample of which one is missing is left out. Shards of the same samples are equal
    byte by byte.

    Raises:
        InputError: the folder holds tar files already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.tar")):
        raise InputError(f"{folder}: holds tar files already; give an empty or a new folder")
    left: Counter[str] = Counter()
    shard, taken = _Shard(folder, 0), UniqueIds()
    try:
        for sample in samples:
            id = taken.free(sample.id)
            try:
                members = _members(sample, id)
            except BadImage as error:
                left[error.reason] += 1
                continue
            if shard.rows and (shard.rows >= SHARD_ROWS or shard.bytes >= SHARD_BYTES):
                shard.close()
                shard = _Shard(folder, shard.number + 1)
            shard.add(key_of(id), members)
        if shard.rows or not shard.number:
            shard.close()
    finally:
        shard.discard()
    return dict(left)


class _Shard:
    """A tar that is being written beside its place, and renamed when it is whole."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.rows = self.bytes = 0
        self._path = folder / f"{number:05d}.tar"
        self._part = folder / f".{self._path.name}.part"
        self._file = self._part.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, key: str, members: dict[str, bytes]) -> None:
        for suffix, data in members.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(data)
            info.mode = 0o644
            self._tar.addfile(info, io.BytesIO(data))
            self.bytes += len(data)
        self.rows += 1

    def close(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove what is not whole."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _members(sample: Sample, id: str) -> dict[str, bytes]:
    """The files of one sample: suffix -> bytes. Raises `BadImage` if a picture cannot be read."""
    members: dict[str, bytes] = {}
    images = []
    for number, image in enumerate(sample.images):
        entry: dict[str, Any] = {"path": image.path}
        if image.data is not None or "://" not in (image.path or ""):  # one that is only a URL stays one
            data = bytes_of(image)
            suffix = suffix_of(data).removeprefix(".")
            entry["member"] = f"{number}.{suffix}" if len(sample.images) > 1 else suffix
            members[entry["member"]] = data
        images.append(entry)
    if sample.captions:
        members["txt"] = sample.captions[0].encode("utf-8", "replace")
    row = to_row(sample) | {"id": to_row(Sample(id))["id"], "images": images}
    for thing in row["objects"]:
        if thing["mask"] is not None:
            thing["mask"] = thing["mask"] | {"counts": thing["mask"]["counts"].decode("latin-1")}
    filled = {name: value for name, value in row.items() if value not in (None, [])}
    members["json"] = json.dumps({MARK: VERSION, **filled}, ensure_ascii=False).encode()
    return members


def key_of(id: str) -> str:
    """An id as a key: letters, digits, "-" and "_" stay, the rest becomes %XX, so that different ids stay different."""
    key = quote(id, safe="", errors="replace").replace(".", "%2E")
    if len(key) > MAX_KEY:
        key = f"{key[:MAX_KEY]}~{hashlib.blake2b(id.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"
    return key


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and path.is_file()
