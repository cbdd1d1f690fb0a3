"""A mixture: several datasets as one, with weights and caps. The file says what should be there, the card what is.

```toml
name = "pairs and text"
seed = 0

[[parts]]
data = "clipart"          # any address; paths start from the mixture's folder
weight = 2                # each row stands twice in an epoch; 0.5: half of the rows stand once

[[parts]]
data = "text:corpus.txt"
cap = 100_000             # at most so many rows, drawn once
optional = true           # may be absent: then the card says so
expected = 1_000_000      # rows that the source is said to have, for the card
```
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.config import parse, read_file, strict
from diptych.data.importing import split_address
from diptych.data.schema import SCHEMA
from diptych.data.shards import written_out
from diptych.data.store import Dataset, Rows, table_of
from diptych.types import InputError, Sample

FOLDER = Path(__file__).parent / "mixtures"
"""Mixtures that come with the package: "mix:pmd?root=DIR"."""

_opening: ContextVar[tuple[Path, ...]] = ContextVar("opening", default=())


@strict
@dataclass(frozen=True)
class Part:
    """One dataset of a mixture; see the module's example for the fields."""

    data: str
    name: str = ""
    weight: float = 1.0
    cap: int | None = None
    optional: bool = False
    expected: int | None = None


@strict
@dataclass(frozen=True)
class Mixture:
    """The contents of a mixture file."""

    parts: tuple[Part, ...]
    name: str = ""
    seed: int = 0
    about: str = ""


class Taken(NamedTuple):
    """What a mixture takes of one dataset: `once` different rows, again and again, in the order of `rows`."""

    name: str
    dataset: Dataset
    rows: Rows
    once: int


class MixtureStore:
    """The rows of several datasets, part after part. See `store.Store`.

    A row's id is "part/id"; when a weight makes it stand several times, its repeats are "part/id#2" and so on.
    """

    def __init__(self, parts: list[Taken]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part.rows) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: Rows, fields: Collection[str]) -> list[Sample]:
        """The samples at `rows`, in that order."""
        found: list[Sample | None] = [None] * len(rows)
        for part, places, inner in self._grouped(rows):
            name, dataset, _, _ = self.parts[part]
            for place, row, sample in zip(places, rows[places].tolist(), dataset.take(inner, fields), strict=True):
                found[place] = replace(sample, id=self._id(part, row, sample.id), source=sample.source or name)
        return [sample for sample in found if sample is not None]

    def table(self, rows: Rows | None, fields: Collection[str]) -> Any:
        """Some fields of the rows (None: of all) as an Arrow table."""
        rows = np.arange(len(self)) if rows is None else rows
        tables = [table_of([], fields)]
        order: list[np.ndarray[Any, Any]] = []
        for part, places, inner in self._grouped(rows):
            name, dataset, _, _ = self.parts[part]
            table = dataset.table(inner, fields).select(tables[0].schema.names)
            if "id" in table.schema.names:
                ids = [self._id(part, r, id) for r, id in zip(rows[places].tolist(), table.column("id").to_pylist())]
                table = table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids, pa.string()))
            if "source" in table.schema.names:
                at = table.schema.get_field_index("source")
                table = table.set_column(at, "source", pc.fill_null(table.column("source"), name))
            tables.append(table.cast(pa.schema([SCHEMA.field(n) for n in table.schema.names])))
            order.append(places)
        joined = pa.concat_tables(tables)
        return joined.take(pa.array(np.argsort(np.concatenate(order), kind="stable"))) if order else joined

    def fingerprint(self) -> str:
        """A hash of the parts' contents and of the rows that were chosen."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self.parts:
            digest.update(f"{part.name}\0{part.dataset.fingerprint()}".encode() + part.rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def _grouped(self, rows: Rows) -> list[tuple[int, np.ndarray[Any, Any], Rows]]:
        """For each part that is touched: the places in `rows` that it fills, and its own rows for them."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        return [
            (part, places, self.parts[part].rows[rows[places] - self.starts[part]])
            for part in np.unique(owner).tolist()
            for places in [np.flatnonzero(owner == part)]
        ]

    def _id(self, part: int, row: int, id: str) -> str:
        name, _, _, once = self.parts[part]
        repeat = (row - int(self.starts[part])) // max(1, once) + 1
        return f"{name}/{id}" if repeat == 1 else f"{name}/{id}#{repeat}"


def open_mixture(rest: str, options: Mapping[str, str]) -> Dataset:
    """Open "mix:FILE", or one that comes with the package: "mix:pmd?root=DIR".

    Args:
        rest: a TOML or JSON file, or the name of a packaged mixture.
        options: "root": the folder that the parts' paths start from; the file's own by default.

    Raises:
        InputError: an unknown option or field, a part that is missing and not optional, or a mixture within itself.
    """
    if set(options) - {"root"}:
        raise InputError(f"mix:{rest}: no option '{min(set(options) - {'root'})}'; it has root")
    packaged = _packaged(rest)
    path = packaged if packaged.is_file() else Path(rest).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise InputError(f"mix:{rest}: no such file; the mixtures that come with the package are {known}")
    mixture = parse(Mixture, read_file(path), str(path))
    root = Path(options.get("root", path.parent)).expanduser().resolve()
    from diptych.data import open_dataset  # which may open a mixture

    taken: list[Taken] = []
    facts = []
    for number, part in enumerate(mixture.parts):
        name = part.name or part.data
        address = _rooted(part.data, root)
        if part.optional and _is_absent(address):
            facts.append({"name": name, "state": "absent", "expected": part.expected, "rows": 0, "taken": 0})
            continue
        try:
            with _within(path):
                dataset = open_dataset(address)
        except InputError as error:
            raise InputError(f"{path}: parts.{number} ({name}): {error}") from None
        rows, once = _chosen(len(dataset), part, np.random.default_rng([mixture.seed, number]))
        taken.append(Taken(name, dataset, rows, once))
        facts.append(
            {"name": name, "state": "present", "expected": part.expected, "rows": len(dataset), "taken": len(rows)}
        )
    if len({part.name for part in taken}) < len(taken):
        raise InputError(f"{path}: two parts have one name; give each its own `name`")
    card = {"about": mixture.about, "parts": facts}
    query = f"?root={options['root']}" if "root" in options else ""
    return Dataset(MixtureStore(taken), mixture.name or path.stem, None, card, address=f"mix:{rest}{query}")


@contextmanager
def _within(path: Path) -> Iterator[None]:
    """While the parts of a mixture are opened. Raises `InputError` if that is under way already."""
    around = _opening.get()
    if path.resolve() in around:
        raise InputError("the mixture is a part of itself")
    token = _opening.set((*around, path.resolve()))
    try:
        yield
    finally:
        _opening.reset(token)


def _chosen(count: int, part: Part, generator: np.random.Generator) -> tuple[Rows, int]:
    """The rows that one epoch takes of a part, and how many different ones they are."""
    if not 0 < part.weight < float("inf") or (part.cap is not None and part.cap < 1):
        raise InputError(f"{part.data}: expected a finite weight above 0 and a cap of at least 1")
    order = generator.permutation(count)
    rows = np.sort(order[: part.cap])
    whole, share = divmod(part.weight, 1.0)
    extra = np.sort(generator.permutation(rows)[: round(share * len(rows))])
    if whole == 0:
        return extra, len(extra)
    return np.concatenate([np.tile(rows, int(whole)), extra]), len(rows)


def _rooted(address: str, root: Path) -> str:
    """The address with a path that starts from `root`, if it has a path."""
    if _needs_no_file(address):
        return address
    kind = split_address(address)[0]
    head, rest = (f"{kind}:", address[len(kind) + 1 :]) if kind is not None else ("", address)
    return head + os.path.join(root, os.path.expanduser(rest))


def _is_absent(address: str) -> bool:
    """Whether nothing is there of what an address, as `_rooted` gives it, leads to."""
    kind, rest, _ = split_address(address)
    names = written_out(rest) if kind == "wds" else []
    return not (_needs_no_file(address) or Path(rest).exists() or any(map(glob, names)))


def _needs_no_file(address: str) -> bool:
    """Whether an address is of built-in or generated data, or of a mixture in the package."""
    from diptych.data import BUILTIN

    kind, rest, _ = split_address(address)
    return kind == "scenes" or address in BUILTIN or (kind == "mix" and _packaged(rest).is_file())


def _packaged(name: str) -> Path:
    """Where a mixture of that name would lie in the package."""
    return FOLDER / f"{name}.toml"
