"""The world as a dataset that is made while it is read: `scenes:?n=10000&size=96&seed=0`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import fields as fields_of
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa

from diptych.config import as_dict
from diptych.data.scenes.dials import Dials, dials_of
from diptych.data.scenes.sample import MAKERS, samples_of
from diptych.data.store import Dataset, Rows, table_of
from diptych.types import InputError, Sample

VERSION = 3
"""Raised when the same dials would give other samples."""

TABLE_ROWS = 512  # samples in memory while a table is made


def open_scenes(rest: str, options: Mapping[str, str]) -> Dataset:
    """The dataset of "scenes:?option=value&..."; the options are the fields of `Dials`.

    Raises:
        InputError: an option that is not known or says nothing, or something between the colon and the question mark.
    """
    if rest:
        raise InputError(f"scenes:{rest}: expected nothing but options, like scenes:?n=1000&seed=0")
    return scenes(dials_of(options))


def scenes(dials: Dials) -> Dataset:
    """The dataset that the dials describe. Raises `InputError` if they rule out what their task needs."""
    if dials.task != "scene":
        MAKERS[dials.task](dials, 0)  # raises here and not somewhere in the middle
    plain = {field.name: field.default for field in fields_of(Dials)}
    chosen = {name: value for name, value in as_dict(dials).items() if value != plain[name]}
    text = urlencode({name: str(value).lower() if isinstance(value, bool) else value for name, value in chosen.items()})
    card = {"read_as": "scenes", "rows": dials.n, "dials": as_dict(dials)}
    return Dataset(SceneStore(dials), "scenes", None, card, address=f"scenes:?{text}" if text else "scenes:")


class SceneStore:
    """Samples by their number, each from the seed alone. See `store.Store`; threads may read at once."""

    def __init__(self, dials: Dials) -> None:
        self.dials = dials

    def __len__(self) -> int:
        return self.dials.n

    def take(self, rows: Rows, fields: Collection[str]) -> list[Sample]:
        """The samples at `rows`, in that order. Pictures are drawn only for fields that need them."""
        return samples_of(self.dials, rows.tolist(), fields)

    def table(self, rows: Rows | None, fields: Collection[str]) -> Any:
        """Some fields of the rows (None: of all) as an Arrow table."""
        rows = np.arange(len(self)) if rows is None else rows
        starts = range(0, max(len(rows), 1), TABLE_ROWS)
        return pa.concat_tables([table_of(self.take(rows[at : at + TABLE_ROWS], fields), fields) for at in starts])

    def fingerprint(self) -> str:
        """A hash of the dials and of the version of the world."""
        text = json.dumps([VERSION, as_dict(self.dials)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
