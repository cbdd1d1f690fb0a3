"""The dataset: samples read by index, as a stream, or column by column, whatever they lie in.

A `Dataset` is a view on a `Store`: Parquet files, tar shards, a mixture, a generated world. Views, such as the two
halves of a split, share the store and its memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.parquet_store import ParquetStore, Shard
from diptych.data.schema import FLAT, SCHEMA, is_ours, to_row
from diptych.data.writer import CARD, QUARANTINE, VERSION, DatasetWriter
from diptych.images import BadImage
from diptych.types import InputError, Rejected, Sample

__all__ = ["SCHEMA", "Dataset", "DatasetWriter", "Store", "image_source", "is_store", "table_of"]

Rows = np.ndarray[Any, np.dtype[np.int64]]
Indices = Sequence[int] | np.ndarray[Any, Any]

STREAMED = 64  # samples read at a time when a dataset is walked through


class Store(Protocol):
    """Where rows live, numbered from 0. Threads may read at once."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows, fields: Collection[str]) -> list[Sample]:
        """The samples at `rows`, in that order. Only `fields` (and the id) need be filled."""
        ...

    def table(self, rows: Rows | None, fields: Collection[str]) -> Any:
        """Some fields of the rows (None: of all) as an Arrow table in `SCHEMA`'s types and order."""
        ...

    def fingerprint(self) -> str:
        """A hash of the contents."""
        ...


def table_of(samples: Iterable[Sample], fields: Collection[str]) -> Any:
    """The samples' fields as an Arrow table: how a store whose rows are not Arrow offers `table`."""
    names = [name for name in SCHEMA.names if name in fields]
    rows = [to_row(sample) for sample in samples]
    return pa.Table.from_pylist(
        [{name: row[name] for name in names} for row in rows],
        schema=pa.schema([SCHEMA.field(name) for name in names]),
    )


class Dataset:
    """Samples to read. Open one with `diptych.data.open_dataset`.

    Attributes:
        name: what it is called in reports.
        address: what `open_dataset` opens it by.
        folder: where it lies; the file itself for a dataset that is one Parquet file; None if it is not on disk.
        card: the contents of `dataset.json`, or an empty dict.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        folder: Path | None,
        card: dict[str, Any],
        rows: Rows | None = None,
        address: str | None = None,
    ) -> None:
        self._store = store
        self._rows = rows  # None: all of the store, in order
        self.name = name
        self.folder = folder
        self.card = card
        self.address = address if address is not None else str(folder)

    @classmethod
    def open(cls, path: str | Path, name: str | None = None) -> Dataset:
        """Open a dataset folder, or one Parquet file in the store's schema. Raises `InputError` if it is neither."""
        path = Path(path)
        if path.is_file():
            return cls(ParquetStore.of_file(path), name or path.stem, path, {})
        card = _read_card(path / CARD)
        shards = [Shard(path / shard["file"], shard["rows"]) for shard in card["shards"]]
        for shard in shards:
            if not shard.path.is_file():
                raise InputError(f"{shard.path}: is missing, though {CARD} lists it")
        return cls(ParquetStore(shards, path), name or card["name"], path, card)

    def __len__(self) -> int:
        return len(self._store) if self._rows is None else len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as an address and rows: the process that unpickles it opens the data again."""
        return _opened_again, (self.address, self.name, self._rows)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self):,} samples, {self.address!r})"

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: index {index} is outside a dataset of {len(self)} samples")
        return self.take([index])[0]

    def __iter__(self) -> Iterator[Sample]:
        """Stream the samples in order, a few at a time."""
        for start in range(0, len(self), STREAMED):
            yield from self.take(range(start, min(start + STREAMED, len(self))))

    def take(self, indices: Indices, fields: Collection[str] | None = None) -> list[Sample]:
        """The samples at `indices`, in that order. Threads may call it at once.

        `fields` names the fields to read (the id always comes along); the others may stay empty.
        """
        return self._store.take(self._absolute(indices), _named(fields))

    def table(self, indices: Indices | None = None, fields: Collection[str] | None = None) -> Any:
        """The samples at `indices` (None: all) as an Arrow table of `SCHEMA`, or of some of its fields and the id."""
        rows = self._rows if indices is None else self._absolute(indices)
        return self._store.table(rows, _named(fields))

    def select(self, indices: Indices) -> Dataset:
        """A view of the samples at `indices`, in that order."""
        return Dataset(self._store, self.name, self.folder, self.card, self._absolute(indices), self.address)

    def column(self, name: str) -> list[Any]:
        """One field of every sample without touching the pictures: a column, `texts.<name>` or `scores.<name>`.

        Raises:
            InputError: unknown field; the sentence lists the known ones.
        """
        top, _, key = name.partition(".")
        if top not in SCHEMA.names or top == "images" or bool(key) != (top in ("texts", "scores") and "." in name):
            raise InputError(f"{self.name}: no field '{name}'; it has {', '.join(self.fields())}")
        values = self._store.table(self._rows, (top,)).column(top)
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
        digest = hashlib.blake2b(self._store.fingerprint().encode(), digest_size=16)
        if self._rows is not None:
            digest.update(self._rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def quarantine(self) -> list[Rejected]:
        """The rows that were rejected when this dataset was made, or, where it is read in place, met so far."""
        met: list[Rejected] | None = getattr(self._store, "rejected", None)
        if met is not None:
            return list(met)
        path = self.folder / QUARANTINE if self.folder is not None else None
        if path is None or not path.is_file():
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


def _opened_again(address: str, name: str, rows: Rows | None) -> Dataset:
    from diptych.data import open_dataset  # it imports this module

    whole = open_dataset(address)
    return Dataset(whole._store, name, whole.folder, whole.card, rows, address)


def is_store(path: Path) -> bool:
    """Whether `path` is a dataset folder or a Parquet file in the store's schema."""
    if path.is_dir():
        return (path / CARD).is_file()
    try:
        return path.is_file() and is_ours(pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError):
        return False


def image_source(sample: Sample, number: int = 0) -> bytes | Path:
    """Where a picture of the sample, the first one, is: its bytes or its file's path. Raises `BadImage` without one."""
    if number < len(sample.images):
        image = sample.images[number]
        if image.data is not None:
            return image.data
        if image.path and "://" not in image.path:
            return Path(image.path)
    raise BadImage("image missing", f"sample '{sample.id}' has no picture on disk")


def _named(fields: Collection[str] | None) -> frozenset[str]:
    return frozenset(SCHEMA.names) if fields is None else frozenset((*fields, "id"))


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
