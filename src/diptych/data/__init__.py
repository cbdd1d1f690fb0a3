"""Where samples come from: `open_dataset` takes an address and gives a `Dataset`, whatever lies there."""

from __future__ import annotations

from pathlib import Path

from diptych.data.exporting import ExportReport, export_dataset
from diptych.data.formats import FORMATS
from diptych.data.importing import ImportReport, Progress, cached_import, import_dataset, locate, split_address
from diptych.data.live import LIVE, open_live
from diptych.data.store import Dataset, DatasetWriter, image_source, is_store
from diptych.types import InputError

__all__ = [
    "BUILTIN",
    "Dataset",
    "DatasetWriter",
    "ExportReport",
    "ImportReport",
    "Progress",
    "export_dataset",
    "image_source",
    "import_dataset",
    "is_address",
    "open_dataset",
]

BUILTIN = {"clipart": Path(__file__).parent / "builtin" / "clipart.parquet"}
"""Datasets that come with the package."""


def open_dataset(address: str | Path, progress: Progress | None = None) -> Dataset:
    """Open a dataset by its address.

    Args:
        address: a built-in name ("clipart"; a folder of that name is "./clipart"), a Diptych dataset folder, or raw
            data of a known format: a folder of pictures, a CSV, TSV or JSON-lines table, Parquet. "kind:path" says the
            format, "kind:path?option=value" sets its options. Raw data is imported into the cache on first use, and
            again when its files have changed. What was recognised is said in the log ("diptych").
        progress: called during an import with (rows done, rows in all or None).

    Raises:
        InputError: nothing of a known kind lies there.
    """
    if isinstance(address, str) and address in BUILTIN:
        return Dataset.open(BUILTIN[address], name=address)
    kind, rest, options = split_address(address)
    if kind is not None and kind in LIVE:
        return open_live(kind, rest, options)
    path = Path(rest).expanduser()
    if kind in (None, "parquet") and not options and is_store(path):
        return Dataset.open(path)
    if kind is None:
        if not rest or not path.exists():
            known = ", ".join(BUILTIN)
            said = address or "(empty address)"
            raise InputError(f"{said}: no such dataset; expected a built-in name ({known}), a file or a folder")
        for live in LIVE:
            if live in FORMATS and FORMATS[live].recognise(path):
                return open_live(live, str(path), options)
    return cached_import(locate(address), progress)


def is_address(name: str | Path) -> bool:
    """Whether `name` says by itself that it is a dataset: built in, "kind:...", or a Diptych dataset on disk."""
    return name in BUILTIN or split_address(name)[0] is not None or is_store(Path(name).expanduser())
