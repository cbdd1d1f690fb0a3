"""Writes what a plan has decided as a new dataset with its datasheet, row by row in bounded memory."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from diptych.data.curate.datasheet import NAME, datasheet, facts
from diptych.data.curate.measuring import Engine, Progress, Threads
from diptych.data.curate.plan import Plan
from diptych.data.curate.running import SCORE, Outcome, run_plan
from diptych.data.curate.steps import CurationReport, Models, no_models
from diptych.data.store import Dataset
from diptych.data.writer import DatasetWriter, check_free
from diptych.types import InputError, Sample

EngineName = Literal["threads", "ray"]

_AT_ONCE = 256  # rows read together


def engine(name: EngineName = "threads", workers: int | None = None) -> AbstractContextManager[Engine]:
    """Where rows are measured: on threads of this process, or through Ray.

    Raises:
        InputError: Ray is missing, or fewer than one worker is asked for.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers: expected one or more, got {workers}")
    if name == "ray":
        from diptych.data.curate.on_ray import on_ray

        return on_ray(workers)
    return nullcontext(Threads(workers))


def curate(
    dataset: Dataset,
    to: str | Path,
    plan: Plan | None = None,
    progress: Progress | None = None,
    *,
    engine_name: EngineName = "threads",
    workers: int | None = None,
    models: Models = no_models,
    work: Path | None = None,
) -> tuple[Dataset, CurationReport]:
    """Write a curated copy of `dataset` into the folder `to`, with a datasheet and the facts in its `dataset.json`.

    Args:
        dataset: what to curate; it is only read.
        to: the new dataset's folder; an older dataset of that place is replaced.
        plan: the steps; the default plan if None.
        progress: called with what is being done, rows done, rows in all.
        engine_name: where rows are measured; the result is the same.
        workers: threads, or processes of a local Ray cluster; one a core by default.
        models, work: see `run_plan`.

    Raises:
        InputError: the target is taken by something that is not a dataset, or settings and data do not fit.
    """
    plan = plan or Plan()
    check_target(dataset, to)
    with engine(engine_name, workers) as run:
        outcome = run_plan(dataset, plan, engine=run, models=models, work=work, progress=progress)
    return write(dataset, plan, outcome, to, progress), outcome.report


def check_target(dataset: Dataset, to: str | Path) -> None:
    """Raise `InputError` where a curated copy cannot stand: in place of its source, or of something not a dataset."""
    folder = Path(os.path.realpath(Path(to).expanduser()))
    if dataset.folder is not None and folder == Path(os.path.realpath(dataset.folder)):
        raise InputError(f"{to}: is the dataset to be curated, which is only read; give another folder")
    check_free(folder)


def write(dataset: Dataset, plan: Plan, outcome: Outcome, to: str | Path, progress: Progress | None = None) -> Dataset:
    """Write the rows of an outcome of `run_plan`. Raises `InputError` if the target is taken."""
    check_target(dataset, to)
    rows, name = outcome.rows, f"{dataset.name}-curated"
    known = facts(dataset, plan, outcome)
    with DatasetWriter(to, name=name, source=f"{dataset.name}, curated", notes=known) as writer:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows.slice(start, _AT_ONCE).to_pydict()
            for at, sample in enumerate(dataset.take(part["row"])):
                writer.write(_changed(sample, {column: values[at] for column, values in part.items()}))
            if progress is not None:
                progress("writing", min(start + _AT_ONCE, len(rows)), len(rows))
        writer.attach(NAME, datasheet(name, known, dataset.card.get("rejected", {})))
    return Dataset.open(writer.folder)


def _changed(sample: Sample, row: dict[str, Any]) -> Sample:
    captions, tags = (row[name] or [] if name in row else getattr(sample, name) for name in ("captions", "tags"))
    scores = {name.removeprefix(SCORE): value for name, value in row.items() if name.startswith(SCORE)}
    found = {name: value for name, value in scores.items() if value is not None}
    negatives = [  # each is wrong beside its own caption and goes with it
        replace(negative, of=captions.index(caption))
        for negative in sample.negatives
        if (caption := sample.captions[negative.of]) in captions
    ]
    return replace(sample, captions=captions, tags=tags, negatives=negatives, scores={**sample.scores, **found})
