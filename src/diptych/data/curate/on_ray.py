"""Measuring through Ray Data: the same function of the same tasks, in other processes or on other machines.

A worker opens the dataset by its address, so the address must lead to the same data on every machine. Workers that die
are replaced by Ray and their tasks run again.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from diptych.data.curate.measuring import Engine, Job, measure_rows
from diptych.types import InputError


@contextmanager
def on_ray(workers: int | None = None) -> Iterator[Engine]:
    """The engine of a cluster: the one that is connected, or that `RAY_ADDRESS` names, or a local one for the while.

    Args:
        workers: processes of a local cluster; one a core by default.

    Raises:
        InputError: Ray is not installed.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers or os.cpu_count()}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **local)
    try:
        yield _run
    finally:
        if own:
            ray.shutdown()


def _run(job: Job, tasks: Sequence[Any]) -> Iterator[Any]:
    """See `measuring.Engine`. What a worker raises is raised here."""
    ray = _ray()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised; the rest is Ray's own affair
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.raise_original_map_exception = False, True
    packed = ray.put(pickle.dumps(job))
    measured = ray.data.from_arrow(list(tasks)).map_batches(
        _measure, batch_size=None, batch_format="pyarrow", fn_args=(packed,)
    )
    try:
        yield from measured.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, InputError) else error) from None


def _measure(rows: Any, packed: Any) -> Any:
    return measure_rows(_job(_ray().get(packed)), rows)


@lru_cache(maxsize=1)
def _job(packed: bytes) -> Job:
    """A worker opens the dataset once and not for each task."""
    job: Job = pickle.loads(packed)
    return job


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a curation is nobody else's affair
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError('curation through Ray needs ray: pip install "diptych[ray]"') from None
    return ray
