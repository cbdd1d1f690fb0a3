"""The dataset: Parquet files read by index, as a stream, or column by column.

Files are memory-mapped. A random read decodes one small row group; the last ones stay in memory. Views, such as the two
halves of a split, share the files and the memory of the dataset they came from.
"""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.schema import FLAT, SCHEMA, from_row
from diptych.data.writer import CARD, METADATA_KEY, QUARANTINE, VERSION, DatasetWriter
from diptych.images import BadImage
from diptych.types import InputError, Rejected, Sample

__all__ = ["SCHEMA", "Dataset", "DatasetWriter", "image_source", "is_store"]

Indices = Sequence[int] | np.ndarray[Any, Any]

CACHE_BYTES = 256 << 20  # row groups kept in memory, for one opened dataset and all its views


class _Shard:
    """One Parquet file: its footer is read on first use, its pages are mapped."""

    def __init__(self, path: Path, rows: int | None) -> None:
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
            self._metadata = self._open(None).metadata
        return self._metadata

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
            self._local.reader = self._open(self.metadata)
        return self._local.reader

    def _open(self, metadata: Any) -> Any:
        try:
            return pq.ParquetFile(pa.memory_map(str(self.path)), metadata=metadata)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: expected a Parquet file of a Diptych dataset: {error}") from None


class _Store:
    """The files of a dataset and the row groups that are in memory; shared by all views."""

    def __init__(self, shards: list[_Shard], base: Path) -> None:
        self.shards = shards
        self.base = base
        self.starts = [0, *np.cumsum([shard.rows for shard in shards], dtype=np.int64).tolist()]
        self._cache: OrderedDict[tuple[int, int, tuple[str, ...]], Any] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    def locate(self, row: int) -> tuple[int, int, int]:
        """Shard, row group, and row within the group, of a row of the whole dataset."""
        shard = bisect_right(self.starts, row) - 1
        row -= self.starts[shard]
        starts = self.shards[shard].starts
        group = bisect_right(starts, row) - 1
        return shard, group, row - starts[group]

    def group(self, shard: int, group: int, columns: tuple[str, ...]) -> Any:
        key = (shard, group, columns)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        table = self.read(shard, group, columns)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = table
                self._cache_bytes += table.nbytes
                while self._cache_bytes > CACHE_BYTES and len(self._cache) > 1:
                    self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return table

    def read(self, shard: int, group: int, columns: tuple[str, ...]) -> Any:
        file = self.shards[shard]
        try:
            return file.reader.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.path}: row group {group} cannot be read: {error}") from None


class Dataset:
    """Samples on disk. Open one with `diptych.data.open_dataset`.

    Attributes:
        name: what it is called in reports.
        folder: where it lies; the file itself for a dataset that is one Parquet file.
        card: the contents of `dataset.json`, or an empty dict.
    """

    def __init__(
        self, store: _Store, name: str, folder: Path, card: dict[str, Any], rows: np.ndarray[Any, Any] | None = None
    ) -> None:
        self._store = store
        self._rows = rows  # None: all of the store, in order
        self.name = name
        self.folder = folder
        self.card = card

    @classmethod
    def open(cls, path: str | Path, name: str | None = None) -> Dataset:
        """Open a dataset folder, or one Parquet file in the store's schema. Raises `InputError` if it is neither."""
        path = Path(path)
        if path.is_file():
            store = _Store([_Shard(path, None)], path.parent)
            if not store.shards[0]._open(None).schema_arrow.equals(SCHEMA):
                raise InputError(f"{path}: the columns are not those of a Diptych dataset; import it first")
            return cls(store, name or path.stem, path, {})
        card = _read_card(path / CARD)
        shards = [_Shard(path / shard["file"], shard["rows"]) for shard in card["shards"]]
        for shard in shards:
            if not shard.path.is_file():
                raise InputError(f"{shard.path}: is missing, though {CARD} lists it")
        return cls(_Store(shards, path), name or card["name"], path, card)

    def __len__(self) -> int:
        return self._store.starts[-1] if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self):,} samples, {str(self.folder)!r})"

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: index {index} is outside a dataset of {len(self)} samples")
        return self.take([index])[0]

    def __iter__(self) -> Iterator[Sample]:
        """Stream the samples in order; at any time one row group is in memory."""
        if self._rows is not None:
            for start in range(0, len(self), 64):
                yield from self.take(range(start, min(start + 64, len(self))))
            return
        for s, shard in enumerate(self._store.shards):
            for g in range(len(shard.starts)):
                for row in self._store.read(s, g, tuple(SCHEMA.names)).to_pylist():
                    yield self._sample(row)

    def take(self, indices: Indices, fields: Collection[str] | None = None) -> list[Sample]:
        """The samples at `indices`, in that order; each row group is read once. Threads may call it at once.

        `fields` names the columns to read (the id always comes along); the others stay empty.
        """
        columns = tuple(n for n in SCHEMA.names if fields is None or n in fields or n == "id")
        wanted: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for position, row in enumerate(self._absolute(indices).tolist()):
            shard, group, at = self._store.locate(row)
            wanted.setdefault((shard, group), []).append((position, at))
        samples: list[Sample | None] = [None] * len(indices)
        for (shard, group), places in wanted.items():
            table = self._store.group(shard, group, columns)
            if len(places) > 1:
                rows = table.take(pa.array([at for _, at in places])).to_pylist()
            else:
                rows = table.slice(places[0][1], 1).to_pylist()
            for (position, _), row in zip(places, rows):
                samples[position] = self._sample(row)
        return [sample for sample in samples if sample is not None]

    def select(self, indices: Indices) -> Dataset:
        """A view of the samples at `indices`, in that order."""
        return Dataset(self._store, self.name, self.folder, self.card, self._absolute(indices))

    def column(self, name: str) -> list[Any]:
        """One field of every sample without touching the pictures: a column, `texts.<name>` or `scores.<name>`.

        Raises:
            InputError: unknown field; the sentence lists the known ones.
        """
        top, _, key = name.partition(".")
        if top not in SCHEMA.names or top == "images" or bool(key) != (top in ("texts", "scores") and "." in name):
            raise InputError(f"{self.name}: no field '{name}'; it has {', '.join(self.fields())}")
        parts = [shard.reader.read(columns=[top], use_threads=False).column(top) for shard in self._store.shards]
        values = pa.chunked_array([chunk for part in parts for chunk in part.chunks], SCHEMA.field(top).type)
        if self._rows is not None:
            values = values.take(pa.array(self._rows))
        if not key:
            return list(values.to_pylist())
        value = "text" if top == "texts" else "score"
        found = [{pair["name"]: pair[value] for pair in pairs or ()}.get(key) for pairs in values.to_pylist()]
        if found and all(entry is None for entry in found) and name not in self.fields():
            raise InputError(f"{self.name}: no field '{name}'; it has {', '.join(self.fields())}")
        return found

    @property
    def ids(self) -> list[str]:
        """The ids of all samples, in order."""
        return self.column("id")

    def fields(self) -> list[str]:
        """Names that `column` understands, with the side texts and scores that occur in this dataset."""
        names = [name for name in SCHEMA.names if name not in ("images", "texts", "scores")]
        for top in ("texts", "scores"):
            keys = {pair["name"] for pairs in self.column(top) for pair in pairs or ()}
            names += [f"{top}.{key}" for key in sorted(keys)]
        return names

    def split(self, fraction: float = 0.1, by: str = "id", seed: int = 0) -> tuple[Dataset, Dataset]:
        """(the rest, the held-out part): rows with the same value of `by` always go to the same side.

        A value is held out if its hash, taken with `seed`, falls below `fraction`; so about that fraction of the
        *values* is held out, the choice survives changes of the dataset, and `by="creator"` keeps one author's
        near-copies together. Rows whose field is empty are hashed by their id.

        Args:
            fraction: in (0, 1).
            by: a flat text field: id, label, source, license, url, creator, split or `texts.<name>`.

        Raises:
            InputError: an unknown or nested field, or a fraction outside (0, 1).
        """
        if not 0 < fraction < 1:
            raise InputError(f"{self.name}: fraction: expected a number between 0 and 1, got {fraction}")
        if by not in FLAT and not by.startswith("texts."):
            flat = [name for name in self.fields() if name in FLAT or name.startswith("texts.")]
            raise InputError(f"{self.name}: cannot split by '{by}'; its flat fields are {', '.join(flat)}")
        values = [value or id for id, value in zip(self.ids, self.column(by))]
        held_out = {value: _unit_hash(seed, value) < fraction for value in set(values)}
        held = np.array([held_out[value] for value in values], dtype=bool)
        return self.select(np.flatnonzero(~held)), self.select(np.flatnonzero(held))

    def fingerprint(self) -> str:
        """A hash of the contents and of the view: equal for equal data wherever it lies."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self._store.shards:
            note = (shard.metadata.metadata or {}).get(METADATA_KEY)
            if note is None:  # written by another program in our schema
                with shard.path.open("rb") as file:
                    note = hashlib.file_digest(file, "blake2b").digest()
            digest.update(note)
        if self._rows is not None:
            digest.update(self._rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def quarantine(self) -> list[Rejected]:
        """The rows that were rejected when this dataset was made."""
        path = self.folder / QUARANTINE
        if not path.is_file():
            return []
        with path.open(encoding="utf-8") as file:
            return [Rejected(**json.loads(line)) for line in file]

    def _absolute(self, indices: Indices) -> np.ndarray[Any, Any]:
        """Rows of the store behind indices of this view; a negative index counts from the end."""
        index = np.asarray(indices, dtype=np.int64)
        if index.size and not (-len(self) <= int(index.min()) and int(index.max()) < len(self)):
            raise IndexError(f"{self.name}: an index is outside a dataset of {len(self)} samples")
        index = np.where(index < 0, index + len(self), index)
        return index if self._rows is None else self._rows[index]

    def _sample(self, row: dict[str, Any]) -> Sample:
        sample = from_row(row)
        for image in sample.images:
            if image.data is None and image.path and "://" not in image.path:
                image.path = str(self._store.base / image.path)
        return sample


def is_store(path: Path) -> bool:
    """Whether `path` is a dataset folder or a Parquet file in the store's schema."""
    if path.is_dir():
        return (path / CARD).is_file()
    try:
        return path.is_file() and bool(pq.read_schema(path).equals(SCHEMA))
    except (pa.ArrowException, OSError, ValueError):
        return False


def image_source(sample: Sample) -> bytes | Path:
    """Where the sample's first picture is: its bytes, or the path of its file. Raises `BadImage` if it has none."""
    if sample.images:
        image = sample.images[0]
        if image.data is not None:
            return image.data
        if image.path and "://" not in image.path:
            return Path(image.path)
    raise BadImage("image missing", f"sample '{sample.id}' has no picture on disk")


def _unit_hash(seed: int, value: str) -> float:
    digest = hashlib.blake2b(f"{seed}\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_bytes())
        shards = [(str(shard["file"]), int(shard["rows"])) for shard in card["shards"]]
        good = card["format"] == "diptych-dataset" and isinstance(card["name"], str) and all(n >= 0 for _, n in shards)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: expected the card of a Diptych dataset: {type(error).__name__}: {error}") from None
    if not good:
        raise InputError(f"{path}: expected the card of a Diptych dataset")
    if card["version"] > VERSION:
        raise InputError(f"{path}: version {card['version']} is newer than {VERSION}; update diptych to read it")
    return dict(card)
