"""`diptych data curate`: a plan's effect on a dataset, and the cleaner dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diptych.cli import terminal
from diptych.cli.options import Json, Seed
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.data import Dataset
    from diptych.data.curate import Change, CurationReport, StepReport

EXAMPLES_SHOWN = 3  # of each step


def curate(
    dataset: str,
    /,
    *,
    to: Path | None = None,
    plan: Path | None = None,
    dry_run: bool = False,
    sample: int | None = None,
    html: Path | None = None,
    engine: Literal["threads", "ray"] = "threads",
    workers: int | None = None,
    work: Path | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Clean a dataset into a new one: filters, better captions, fewer repeats, balance. Says first what each step does.

    What is measured on the way is kept, so that a run which was killed goes on where it stopped, and a changed plan
    measures only what is new.

    Args:
        dataset: What to clean; it is only read.
        to: The new dataset's folder; an older dataset of that place is replaced.
        plan: A JSON or TOML file with the steps; docs/curation.md lists them.
        dry_run: Say what would be done and write nothing.
        sample: With --dry-run: look at so many random rows and estimate the rest.
        html: Write a page that shows what each step did, with pictures.
        engine: Where pictures and texts are measured; the result is the same.
        workers: Threads, or processes of a local Ray cluster; one a core by default.
        work: The folder where measured values are kept; in the cache by default.
        seed: Decides what is drawn, where the plan does not say, and which examples are shown.
    """
    from diptych import api
    from diptych.config import as_dict
    from diptych.data import open_dataset
    from diptych.data.curate import Plan, read_plan, run_plan, write
    from diptych.data.curate.datasheet import step_facts
    from diptych.data.curate.preview import in_all
    from diptych.data.curate.writing import check_target
    from diptych.data.curate.writing import engine as start

    if to is None and not dry_run:
        raise InputError("curate: expected --to DIR for the new dataset, or --dry-run")
    if sample is not None and (not dry_run or sample < 1):
        raise InputError("curate: --sample: expected at least one row, together with --dry-run")
    steps = read_plan(plan.expanduser(), {"seed": seed}) if plan else Plan(seed=seed)
    with terminal.Working() as working:
        opened = open_dataset(dataset, working.of("importing"))
        if not dry_run and to is not None:
            check_target(opened, to)
        kept = work.expanduser() if work else None
        with start(engine, workers) as run:
            outcome = run_plan(
                opened, steps, sample=sample, engine=run, models=api.pair_encoder, work=kept, progress=working
            )
    report = outcome.report
    if json != terminal.STDOUT:
        _show(report, seed)
    if not dry_run and to is not None:
        with terminal.Working() as working:
            write(opened, steps, outcome, to.expanduser(), working)
    if json != terminal.STDOUT:
        terminal.say("nothing was written (--dry-run)" if dry_run else f"{to}: {report.rows_after:,} samples")
    result = {
        "rows_before": report.rows_before,
        "rows_after": report.rows_after,
        "rows_in_all": report.rows_in_all,
        "plan": as_dict(steps),
        "steps": [
            {**step_facts(step, EXAMPLES_SHOWN), "rows_after_in_all": None if estimate is None else estimate._asdict()}
            for step, estimate in zip(report.steps, in_all(report))
        ],
        "folder": None if dry_run else str(to),
    }
    terminal.write_json(result, json)
    if html is not None:
        _page(opened, report, html.expanduser(), seed)


# ---------------------------------------------------------------- what is shown


def _show(report: CurationReport, seed: int) -> None:
    from diptych.data.curate.preview import in_all, is_sample

    sampled = is_sample(report)
    columns = ("step", "rows before", "after", "kept", "dropped or changed")
    table = terminal.table("", *columns, *([f"left of all {report.rows_in_all:,}"] if sampled else []))
    for step, estimate in zip(report.steps, in_all(report)):
        kept = f"{step.rows_after / step.rows_before:.1%}" if step.rows_before else ""
        cells = [step.name, f"{step.rows_before:,}", f"{step.rows_after:,}", kept, f"{step.changed:,}"]
        if estimate is not None:
            cells.append(f"{estimate.value:,.0f} ({estimate.low:,.0f} to {estimate.high:,.0f})")
        table.add_row(*cells)
    terminal.out.print(table)
    if sampled:
        terminal.say(
            f"Judged on {report.rows_before:,} of {report.rows_in_all:,} rows. The last column stands empty from the "
            "first step on that compares rows with each other: on all rows such a step finds more than on a sample.\n"
        )
    for step in report.steps:
        if step.examples:
            terminal.say(f"{step.name}: {step.sentence}")
            for change in _some(step, seed):
                after = change.after or ("(dropped)" if step.rows_after < step.rows_before else "(nothing)")
                terminal.say(f"   {change.before or '(nothing)'}  ->  {after}")
            terminal.say()


def _some(step: StepReport, seed: int) -> Sequence[Change]:
    """A few changes of a step, drawn at random."""
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(step.examples))[:EXAMPLES_SHOWN]
    return [step.examples[i] for i in sorted(chosen)]


def _page(raw: Dataset, report: CurationReport, to: Path, seed: int) -> None:
    from diptych.evaluation.report.build import curation_section, environment
    from diptych.evaluation.report.render import write_report
    from diptych.evaluation.report.sections import Report

    section = curation_section(report.steps, raw, seed=seed)
    summary = f"Of {report.rows_before:,} samples {report.rows_after:,} stay."
    page = Report(f"{raw.name}, curated", summary, [section], terminal.command(), environment())
    terminal.note(f"wrote {write_report(page, to)}")
