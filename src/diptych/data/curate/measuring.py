"""Measures rows in ranges, on threads or wherever else an `Engine` runs the very same function, and keeps the values.

What is measured lies in a work folder, one file for each range of rows: `SOURCE/MEASURE/0000012.arrow`, where SOURCE is
the fingerprint of the dataset and MEASURE names the step's measurement. Files appear by a rename, so that a killed run
loses the ranges under way and nothing else, and the next run measures only what is missing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.curate.lists import pieces
from diptych.data.curate.steps import Models, Step
from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, read_bytes
from diptych.types import Sample

log = logging.getLogger("diptych")

RANGE = 1024  # rows in a task and a file: what a kill can lose
BATCH = 64  # rows whose pictures are in memory together, for each thread or worker

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


class Job(NamedTuple):
    """What a worker needs to know to measure any rows; it can be pickled."""

    dataset: Dataset
    step: Step
    models: Models


Engine = Callable[[Job, Sequence[Any]], Iterator[Any]]
"""Measures tasks, Arrow tables of "row" and texts, with `measure_rows`; the results come in any order."""


def measure_rows(job: Job, rows: Any) -> Any:
    """What the step measures on some rows: an Arrow table of "row" and the measured columns. A pure function."""
    size = BATCH if job.step.sees_pictures else max(len(rows), 1)
    parts = []
    for start in range(0, len(rows), size):
        batch = rows.slice(start, size)
        if job.step.sees_pictures:
            for name, column in _pictures(job.dataset, batch["row"].to_pylist()).items():
                batch = batch.append_column(name, column)
        parts.append(pa.table({"row": batch["row"], **job.step.measure(batch, job.models)}))
    return pa.concat_tables(parts)


def _pictures(dataset: Dataset, rows: list[int]) -> dict[str, Any]:
    """The encoded pictures of each row, null where one cannot be had: the first, "picture", and the others, "more"."""
    samples = dataset.take(rows, fields=("images",))
    more = [[_encoded(Sample(sample.id, [image])) for image in sample.images[1:]] for sample in samples]
    return {
        "picture": pa.array([_encoded(sample) for sample in samples], pa.large_binary()),
        "more": pa.array(more, pa.list_(pa.large_binary())),
    }


def _encoded(sample: Sample) -> bytes | None:
    try:
        source = image_source(sample)
        return source if isinstance(source, bytes) else read_bytes(source)
    except BadImage:
        return None


@dataclass(frozen=True)
class Threads:
    """The engine of one machine: tasks on threads of this process, in order. Decoders release the interpreter lock.

    Attributes:
        workers: threads; one a core by default.
    """

    workers: int | None = None

    def __call__(self, job: Job, tasks: Sequence[Any]) -> Iterator[Any]:
        """See `Engine`."""
        workers = self.workers or os.cpu_count() or 1
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="curate") as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(measure_rows, job, task))
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


class Measurer:
    """Measures what is not measured yet.

    Args:
        folder: the work folder.
        engine: where measuring is done.
        models: dual encoders by address.
        progress: called after each range.
    """

    def __init__(self, folder: Path, engine: Engine, models: Models, progress: Progress | None = None) -> None:
        self.folder = folder
        self.engine = engine
        self.models = models
        self.progress = progress

    def __call__(self, step: Step, dataset: Dataset, rows: Any) -> Any:
        """What `step` measures on `rows`, one row for each of them in their order, without their own columns.

        Args:
            dataset: where the pictures are.
            rows: an Arrow table with "row" (places in `dataset`, rising) and the texts that are measured.
        """
        name = f"{step.measures(self.models)}\0{RANGE}"
        place = self.folder / dataset.fingerprint() / hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        parts = _by_range(_with_tokens(rows.select(["row", *step.measures_texts])))
        tasks = {}
        for key, part in parts.items():
            missing = part.filter(pc.invert(_known(part, _read(place, key))))
            if len(missing):
                tasks[key] = missing
        self._measure(Job(dataset, step, self.models), tasks, place, len(rows))
        return pa.concat_tables([_aligned(part, _read(place, key)) for key, part in parts.items()])

    def _measure(self, job: Job, tasks: dict[int, Any], place: Path, total: int) -> None:
        done = total - sum(map(len, tasks.values()))
        if not tasks:
            return
        say = self.progress or (lambda what, done, total: None)
        what = f"measuring {job.step.name}"
        say(what, done, total)
        for result in self.engine(job, [task.drop_columns("token") for task in tasks.values()]):
            for key, part in _by_range(result).items():
                token = tasks[key]["token"].take(pc.index_in(part["row"], value_set=tasks[key]["row"]))
                _write(place, key, part.append_column("token", token))
            done += len(result)
            say(what, done, total)


def _by_range(rows: Any) -> dict[int, Any]:
    """The rows cut where one range ends and the next begins; "row" rises."""
    number = rows["row"].to_numpy() // RANGE
    cuts = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    return {int(number[a]): rows.slice(a, b - a) for a, b in zip(cuts[:-1], cuts[1:])}


def _with_tokens(rows: Any) -> Any:
    """With a hash of each row's texts: a measured value holds only for the texts that it was measured on."""
    names = [name for name in rows.column_names if name != "row"]
    tokens = np.zeros(len(rows), dtype=np.uint64)
    start = 0
    for piece in pieces(rows.select(names)) if names else ():
        for values in zip(*piece.values(), strict=True):
            tokens[start] = int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=8).digest(), "big")
            start += 1
    return rows.append_column("token", pa.array(tokens))


def _known(part: Any, kept: Any) -> Any:
    """Which rows of `part` have been measured with the same texts: an Arrow array of booleans."""
    if kept is None:
        return pa.array(np.zeros(len(part), dtype=bool))
    return pc.fill_null(pc.equal(kept["token"].take(_places(part, kept)), part["token"]), False)


def _aligned(part: Any, kept: Any) -> Any:
    """What was measured, in the order of `part`."""
    return kept.take(_places(part, kept)).drop_columns(["row", "token"])


def _places(part: Any, kept: Any) -> Any:
    return pc.index_in(part["row"], value_set=kept["row"].combine_chunks())


def _read(place: Path, key: int) -> Any:
    """What was measured in a range, or None. A file that cannot be read is measured again."""
    file = place / f"{key:07d}.arrow"
    try:
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_file(source).read_all()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        log.warning("%s: measured again: %s", file, error)
        return None


def _write(place: Path, key: int, measured: Any) -> None:
    """Add rows to those measured in a range."""
    kept = _read(place, key)
    if kept is not None:
        again = pc.is_in(kept["row"], value_set=measured["row"].combine_chunks())
        measured = pa.concat_tables([kept.filter(pc.invert(again)), measured])
    place.mkdir(parents=True, exist_ok=True)
    part = place / f"{key:07d}.{uuid.uuid4().hex[:12]}.part"
    with pa.ipc.new_file(part, measured.schema) as writer:
        writer.write_table(measured)
    part.rename(place / f"{key:07d}.arrow")
