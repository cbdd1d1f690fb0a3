"""Runs a plan: the small columns of all rows go from step to step as one Arrow table, pictures never do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.curate.measuring import Engine, Measurer, Progress, Threads
from diptych.data.curate.plan import Plan
from diptych.data.curate.steps import CurationReport, Models, Step, StepReport, Tools, no_models, report
from diptych.data.store import Dataset
from diptych.paths import cache_dir

SCORE = "score "  # before the name of a score, in a column's name


class Outcome(NamedTuple):
    """What a plan makes of a dataset, before anything is written.

    Attributes:
        rows: an Arrow table of the rows that stay: "row" (its place in the dataset), "id", the text columns that the
            plan works on in their new state, and "score NAME".
        report: what each step did.
    """

    rows: Any
    report: CurationReport


def run_plan(
    dataset: Dataset,
    plan: Plan | None = None,
    *,
    sample: int | None = None,
    engine: Engine | None = None,
    models: Models = no_models,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Decide what `plan` keeps and changes. Writes nothing but the work folder.

    Args:
        dataset: what to curate; it is only read.
        plan: the steps; the default plan if None.
        sample: look at so many rows, drawn with the plan's seed, and not at all.
        engine: where rows are measured; threads of this process if None.
        models: dual encoders by address, for steps that name one.
        work: where measured columns are kept between runs; in the cache if None.
        progress: called with what is being measured, rows done, rows in all.

    Raises:
        InputError: settings, data and models do not fit.
    """
    plan = plan or Plan()
    measurer = Measurer(work or cache_dir() / "curation", engine or Threads(), models, progress)

    def elsewhere(step: Step, other: Dataset) -> Any:
        return measurer(step, other, _load(other, [step]))

    for step in plan.steps:
        step.measures(models)  # a model, list or package that is missing is told before anything is measured
    tools = Tools(plan.seed, models, elsewhere)
    rows = _load(dataset, plan.steps)
    if sample is not None and sample < len(rows):
        rows = rows.filter(pa.array(_drawn(len(rows), sample, plan.seed)))
    before = len(rows)
    steps = []
    for step in plan.steps:
        rows, told = _run(step, dataset, rows, measurer, tools)
        steps.append(told)
    return Outcome(rows, CurationReport(before, len(rows), steps, len(dataset)))


def _run(step: Step, dataset: Dataset, rows: Any, measurer: Measurer, tools: Tools) -> tuple[Any, StepReport]:
    if not len(rows):
        return rows, StepReport(step.name, "Nothing was left to judge.", 0, 0, 0)
    seen = rows
    if step.measures(tools.models):
        measured = measurer(step, dataset, rows)
        for name in measured.column_names:
            seen = seen.append_column(name, measured[name])
    decision = step.decide(seen, tools)
    told = report(step, decision, seen, tools.seed)
    for name, column in decision.columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    for name, values in decision.scores.items():
        column = SCORE + name
        scores = pa.array(values, pa.float64(), from_pandas=True)  # NaN: no score
        at = rows.column_names.index(column) if column in rows.column_names else None
        rows = rows.append_column(column, scores) if at is None else rows.set_column(at, column, scores)
    return (rows if decision.keep is None else rows.filter(pa.array(decision.keep))), told


def _load(dataset: Dataset, steps: Iterable[Step]) -> Any:
    """All rows with their places and the columns that the steps read."""
    names = {name for step in steps for name in step.reads} | {"id", "captions"}
    table = dataset.table(None, (names | {"texts"}) - {"path"} if "path" in names else names)
    if "path" in names:
        table = table.append_column("path", _paths(table)).drop_columns("texts")
    return table.append_column("row", pa.array(np.arange(len(table), dtype=np.int64)))


def _paths(table: Any) -> Any:
    """The side text "path", or else the id: rows of a folder of pictures are named by their path."""
    chunks = []
    for batch in table.select(["id", "texts"]).to_batches():
        entries = pc.list_flatten(batch["texts"])
        is_path = pc.equal(entries.field("name"), "path")
        of_row = pc.list_parent_indices(batch["texts"]).filter(is_path)
        place = pc.index_in(pa.array(np.arange(len(batch))), value_set=of_row)
        chunks.append(pc.coalesce(entries.field("text").filter(is_path).take(place), batch["id"]))
    return pa.chunked_array(chunks, pa.string())


def _drawn(count: int, wanted: int, seed: int) -> Any:
    mask = np.zeros(count, dtype=bool)
    mask[np.random.default_rng([seed, wanted]).choice(count, wanted, replace=False)] = True
    return mask
