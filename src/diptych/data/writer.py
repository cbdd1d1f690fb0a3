"""Writing a dataset so that it appears whole or not at all.

Everything goes to a hidden folder beside the target, which takes the target's name by one rename at the very end. A
writer that is killed leaves the hidden folder behind; nothing opens it, and a later writer of that target sweeps it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.schema import SCHEMA, to_row
from diptych.data.unique_ids import UniqueIds
from diptych.types import InputError, Rejected, Sample

VERSION = 2  # 1: fewer fields; it still opens
CARD = "dataset.json"
QUARANTINE = "quarantine.jsonl"
METADATA_KEY = b"diptych"

# A random read costs one row group, so groups stay small; each costs some 3 KB in the footer, so not too small.
GROUP_ROWS = 256
GROUP_BYTES = 2 << 20
SHARD_BYTES = 512 << 20
STALE_SECONDS = 24 * 3600

_IMAGE_BYTES = "images.list.element.bytes"


def _leaves() -> list[str]:
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, SCHEMA).close()
    schema = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [schema.column(i).path for i in range(len(schema))]


class DatasetWriter:
    """Writes samples and rejected rows into a dataset folder; use it as a context manager.

    The folder holds `data-00000.parquet ...`, `quarantine.jsonl` (one rejected row a line) and `dataset.json` (name,
    rows, rejected counts by reason, source). An existing dataset of that place is replaced, anything else is refused.

    Args:
        folder: where the dataset will stand.
        name: its name; the folder's by default.
        source: where its rows came from, in words or as an address.
        rows_per_shard: rows of one Parquet file; a file also ends at 512 MiB of pictures.
        notes: more fields for `dataset.json`.

    Raises:
        InputError: the place is taken by something that is not a dataset, or a sample has a field of the wrong type.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        source: str | None = None,
        rows_per_shard: int = 50_000,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(os.path.realpath(Path(folder).expanduser()))
        self.name = name or self.folder.name
        self.source = source
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self.notes: dict[str, Any] = dict(notes or {})
        self._rows_per_shard = rows_per_shard
        self._group: list[Sample] = []
        self._group_bytes = 0
        self._ids = UniqueIds()
        self._shards: list[dict[str, Any]] = []
        self._parquet: Any = None
        self._shard_rows = 0
        self._shard_bytes = 0

    def __enter__(self) -> Self:
        check_free(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._part = self.folder.parent / f".{self.folder.name}.{uuid.uuid4().hex[:12]}.part"
        self._part.mkdir()
        self._quarantine = (self._part / QUARANTINE).open("w", encoding="utf-8")
        self._compression = {leaf: "none" if leaf == _IMAGE_BYTES else "zstd" for leaf in _leaves()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._quarantine.close()
            if self._parquet is not None:
                self._parquet.close()
            shutil.rmtree(self._part, ignore_errors=True)

    def write(self, sample: Sample) -> str:
        """Add one sample. An id that is already taken gets '#2', '#3', ... appended; the id in use is returned."""
        if not isinstance(sample.id, str) or not sample.id:
            raise InputError(f"sample {self.rows}: id: expected a non-empty string, got {sample.id!r}")
        sample.id = self._ids.free(sample.id)
        self._group.append(sample)
        self._group_bytes += sum(len(image.data or b"") for image in sample.images)
        self.rows += 1
        if len(self._group) >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
            self._flush_group()
        return sample.id

    def reject(self, rejected: Rejected) -> None:
        """Put one row that could not be read into the quarantine, and count it under its reason."""
        self.rejected[rejected.reason] += 1
        line = json.dumps(rejected._asdict(), ensure_ascii=False)
        self._quarantine.write(line.encode("utf-8", "replace").decode() + "\n")

    def attach(self, name: str, text: str) -> None:
        """Put a text file beside the data; it appears together with the dataset."""
        (self._part / name).write_bytes(text.encode("utf-8", "replace"))

    def _flush_group(self) -> None:
        if not self._group:
            return
        rows = [to_row(sample) for sample in self._group]
        try:
            batch = pa.Table.from_pylist(rows, schema=SCHEMA)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise self._blame(rows, error) from None
        if self._parquet is None:
            self._open_shard()
        self._parquet.write_table(batch, row_group_size=len(rows))
        for row in rows:
            pictures = [image.pop("bytes") or b"" for image in row["images"]]
            self._hash.update(repr(row).encode())
            for picture in pictures:
                self._hash.update(picture)
        self._shard_rows += len(rows)
        self._shard_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0
        if self._shard_rows >= self._rows_per_shard or self._shard_bytes >= SHARD_BYTES:
            self._close_shard()

    def _blame(self, rows: list[dict[str, Any]], error: Exception) -> InputError:
        for row in rows:
            for field in SCHEMA:
                try:
                    pa.array([row[field.name]], field.type)
                except (pa.ArrowException, TypeError, ValueError, OverflowError) as own:
                    return InputError(f"sample '{row['id']}': {field.name}: expected {field.type}: {own}")
        return InputError(f"samples from '{rows[0]['id']}' on: {error}")

    def _open_shard(self) -> None:
        self._parquet = pq.ParquetWriter(
            self._part / f"data-{len(self._shards):05d}.parquet",
            SCHEMA,
            compression=self._compression,
            use_dictionary=[leaf for leaf in self._compression if leaf not in (_IMAGE_BYTES, "id")],
            write_statistics=["id"],  # statistics of the picture column would repeat whole pictures in the footer
        )
        self._hash = hashlib.blake2b(digest_size=16)
        self._shard_rows = self._shard_bytes = 0

    def _close_shard(self) -> None:
        note = json.dumps({"version": VERSION, "fingerprint": self._hash.hexdigest()})
        self._parquet.add_key_value_metadata({METADATA_KEY: note.encode()})
        self._parquet.close()
        self._parquet = None
        self._shards.append({"file": f"data-{len(self._shards):05d}.parquet", "rows": self._shard_rows})

    def _commit(self) -> None:
        self._flush_group()
        if self._parquet is None and not self._shards:  # an empty dataset still has its columns
            self._open_shard()
        if self._parquet is not None:
            self._close_shard()
        self._quarantine.close()
        card = {
            **self.notes,
            "format": "diptych-dataset",
            "version": VERSION,
            "name": self.name,
            "source": self.source,
            "rows": self.rows,
            "rejected": dict(self.rejected.most_common()),
            "shards": self._shards,
        }
        text = json.dumps(card, indent=2, ensure_ascii=False).encode("utf-8", "replace")
        (self._part / CARD).write_bytes(text + b"\n")
        for path in self._part.iterdir():
            _sync(path)
        _replace(self._part, self.folder)

    def _sweep(self) -> None:
        """Remove what killed writers left here; what one had moved aside only if the dataset itself is there."""
        left = list(self.folder.parent.glob(f".{self.folder.name}.*.part"))
        if (self.folder / CARD).is_file():
            left += self.folder.parent.glob(f".{self.folder.name}.*.old*")
        for path in left:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raise `InputError` if the place of a new dataset is taken by something that is not one."""
    if folder.exists() and not (folder / CARD).is_file() and not _is_empty_folder(folder):
        raise InputError(f"{folder}: exists and is not a Diptych dataset; give an empty or a new folder")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace(part: Path, folder: Path) -> None:
    """Give `part` the name `folder`; what stood there is moved aside first and removed last."""
    old = part.with_suffix(".old")
    with suppress(FileNotFoundError):
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:  # another process has finished the same dataset in this very moment: the later one stays
        folder.rename(old.with_suffix(".older"))
        part.rename(folder)
        shutil.rmtree(old.with_suffix(".older"), ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
