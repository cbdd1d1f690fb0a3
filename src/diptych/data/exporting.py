"""From a dataset to a format that people exchange: all or nothing, and what does not fit is counted."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diptych.data.formats import FORMATS
from diptych.data.importing import Progress, split_address
from diptych.data.store import Dataset
from diptych.types import InputError, Sample


class ExportReport(NamedTuple):
    """What an export did: the format, the folder, samples offered, and what was left out, by reason."""

    format: str
    folder: Path
    samples: int
    left_out: dict[str, int]


def export_dataset(dataset: Dataset, to: str, progress: Progress | None = None) -> ExportReport:
    """Write a dataset in a public format to a new or empty folder.

    Args:
        dataset: what to write; a view writes its own rows.
        to: "format:FOLDER", for example "coco:out" or "wds:shards".
        progress: called with (samples written, samples in all).

    Raises:
        InputError: a format that cannot be written, or a folder that is not empty.
    """
    kind, rest, options = split_address(to)
    writers = {name: format.write for name, format in FORMATS.items() if format.write is not None}
    if kind is None or kind not in writers or options:
        raise InputError(f"{to}: expected FORMAT:FOLDER where the format is one of {', '.join(writers)}")
    folder = Path(rest).expanduser().resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: exists already; give an empty or a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.part"
    part = hidden / folder.name
    part.mkdir(parents=True)
    try:
        left = writers[kind](_counted(dataset, progress), part)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return ExportReport(kind, folder, len(dataset), dict(left or {}))


def _counted(dataset: Dataset, progress: Progress | None) -> Iterator[Sample]:
    for done, sample in enumerate(dataset, 1):
        yield sample
        if progress is not None:
            progress(done, len(dataset))
