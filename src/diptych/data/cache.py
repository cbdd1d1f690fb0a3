"""Features of frozen towers, kept between runs.

A feature belongs to (weights fingerprint, preprocessing fingerprint, sample id). The first two make the key of a
`FeatureCache`, the third finds the row.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diptych.paths import cache_dir
from diptych.types import InputError

__all__ = ["FeatureCache", "cache_dir"]

log = logging.getLogger("diptych")

SEGMENTS = 64  # more files than this are joined into one when the cache is opened


class FeatureCache:
    """Float32 vectors on disk, found by sample id.

    Each `put` adds one file that appears by a rename, so that a kill loses at most the vectors of that call and never
    damages older ones. Files are memory-mapped. A file that cannot be read is left out with a warning. Where several
    files hold one id, any of them serves: equal keys mean equal vectors.

    Args:
        key: everything besides the sample that changes a vector, e.g. f"{weights}-{preprocessing}".
        folder: where the files lie; a folder of the key's own under `cache_dir()` by default.
    """

    def __init__(self, key: str, folder: Path | None = None) -> None:
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        self.folder = folder or cache_dir() / "features" / digest
        self._lock = threading.Lock()
        self._vectors: list[np.ndarray[Any, Any]] = []
        self._where: dict[str, tuple[int, int]] = {}
        files = sorted(self.folder.glob("*.arrow"))
        for file in files:
            self._map(file)
        if len(files) > SEGMENTS:
            self._join(files)

    def __len__(self) -> int:
        return len(self._where)

    @property
    def width(self) -> int:
        """D, the length of each vector; 0 while the cache is empty."""
        return int(self._vectors[0].shape[1]) if self._vectors else 0

    def get(self, ids: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(found, vectors): a boolean mask N, and float32 N D in the order of `ids` with zeros where none was found."""
        with self._lock:
            places = [self._where.get(id) for id in ids]
            vectors = np.zeros((len(ids), self.width), dtype=np.float32)
            for row, place in enumerate(places):
                if place is not None:
                    vectors[row] = self._vectors[place[0]][place[1]]
        return np.array([place is not None for place in places], dtype=bool), vectors

    def put(self, ids: Sequence[str], vectors: np.ndarray[Any, Any]) -> None:
        """Keep `vectors` (N D, stored as float32) under `ids`. Raises `InputError` if the shape does not fit."""
        if vectors.ndim != 2 or len(vectors) != len(ids) or (self.width and vectors.shape[1] != self.width):
            width = self.width or "D"
            raise InputError(f"{self.folder}: expected vectors of shape {len(ids)} {width}, got {vectors.shape}")
        if not len(ids):
            return
        with self._lock:
            self._map(self._save(list(ids), vectors))

    def _save(self, ids: list[str], vectors: np.ndarray[Any, Any]) -> Path:
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        table = pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        part = self.folder / f"{name}.part"
        with part.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=len(ids))
            file.flush()
            os.fsync(file.fileno())
        return part.rename(self.folder / f"{name}.arrow")

    def _map(self, file: Path) -> None:
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
            ids, column = batch.column("id").to_pylist(), batch.column("vector")
            vectors = column.flatten().to_numpy().reshape(len(ids), column.type.list_size)
            if self.width and vectors.shape[1] != self.width:
                raise ValueError(f"vectors of length {vectors.shape[1]}, others of {self.width}")
        except Exception as error:  # a damaged file can raise nearly anything; its vectors can be computed again
            log.warning("%s: features left out: %s", file, error)
            return
        self._vectors.append(vectors)
        self._where.update((id, (len(self._vectors) - 1, row)) for row, id in enumerate(ids))

    def _join(self, files: list[Path]) -> None:
        ids = list(self._where)
        if ids:
            _, vectors = self.get(ids)
            joined = self._save(ids, vectors)
            self._vectors, self._where = [], {}
            self._map(joined)
        for file in files:
            file.unlink(missing_ok=True)
