"""`diptych data`: import raw data, look at a dataset, clean it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import terminal
from diptych.cli.options import Json, Seed
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.data import Dataset
    from diptych.data.curate import CurationReport, StepReport

EXAMPLES_SHOWN = 3  # of each step


def import_(
    source: Path,
    /,
    *,
    to: Path,
    name: str | None = None,
    root: Path | None = None,
    threads: int | None = None,
    json: Json = None,
) -> None:
    """Make a dataset of raw data. A bad row stops nothing: it is kept aside with its reason and counted.

    Args:
        source: A folder of pictures with or without captions, a CSV, TSV or JSON-lines table of paths, Parquet.
        to: The new dataset's folder; an older dataset of that place is replaced.
        name: What to call it; the source's name by default.
        root: The folder from which picture paths start; the source's own by default.
        threads: That read and decode; one a core by default.
    """
    from diptych.data import import_dataset

    with terminal.Working() as working:
        progress = working.of("importing")
        report = import_dataset(source.expanduser(), to.expanduser(), progress, name=name, root=root, threads=threads)
    if json != terminal.STDOUT:
        terminal.say(f"{to}: {terminal.count(report.rows, 'sample')}, read as {report.format}")
        if report.merged:
            terminal.say(
                f"{terminal.count(report.merged, 'row')} gave their captions to an earlier row of the same picture"
            )
        if report.rejected:
            terminal.say(f"rejected: {terminal.reasons(report.rejected)}")
            terminal.say(f"each one with its reason is in {report.folder / 'quarantine.jsonl'}")
    terminal.write_json({**report._asdict(), "folder": str(report.folder)}, json)


def curate(
    dataset: str,
    /,
    *,
    to: Path | None = None,
    plan: Path | None = None,
    dry_run: bool = False,
    html: Path | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Clean a dataset into a new one: better captions, fewer repeats, no author in excess. Says what each step did.

    Args:
        dataset: What to clean; it is only read.
        to: The new dataset's folder; an older dataset of that place is replaced.
        plan: A JSON or TOML file with the steps' numbers; docs/data.md lists them.
        dry_run: Say what would be done and write nothing.
        html: Write a page that shows what each step did, with pictures.
        seed: Decides which rows a cap keeps, where the plan does not say, and which examples are shown.
    """
    from diptych.config import as_dict, parse, read_file
    from diptych.data import open_dataset
    from diptych.data.curate import Plan, run_plan
    from diptych.data.curate import curate as run

    if to is None and not dry_run:
        raise InputError("curate: expected --to DIR for the new dataset, or --dry-run")
    steps = parse(Plan, {"seed": seed, **(read_file(plan.expanduser()) if plan else {})}, str(plan))
    with terminal.Working() as working:
        opened = open_dataset(dataset, working.of("importing"))
        progress = working.of("pictures compared")
        report: CurationReport
        if dry_run or to is None:
            report = run_plan(opened, steps, progress)[1]
        else:
            report = run(opened, to.expanduser(), steps, progress)[1]
    result = {
        "rows_before": report.rows_before,
        "rows_after": report.rows_after,
        "plan": as_dict(steps),
        "steps": [_step_facts(step, seed) for step in report.steps],
        "folder": None if dry_run else str(to),
    }
    if json != terminal.STDOUT:
        _show_curation(report, seed)
        terminal.say("nothing was written (--dry-run)" if dry_run else f"{to}: {report.rows_after:,} samples")
    terminal.write_json(result, json)
    if html is not None:
        _curation_page(opened, report, html.expanduser(), seed)


# ---------------------------------------------------------------- what is shown


def _show_curation(report: CurationReport, seed: int) -> None:
    table = terminal.table("", "step", "rows before", "after", "changed or dropped")
    for step in report.steps:
        table.add_row(step.name, f"{step.rows_before:,}", f"{step.rows_after:,}", f"{len(step.changes):,}")
    terminal.out.print(table)
    for step in report.steps:
        if step.changes:
            terminal.say(f"{step.name}: {step.sentence}")
            gone = "(dropped)" if step.rows_after < step.rows_before else "(nothing)"
            for change in _some(step, seed):
                terminal.say(f"   {change.before or '(nothing)'}  ->  {change.after or gone}")
            terminal.say()


def _some(step: StepReport, seed: int) -> list[Any]:
    """A few changes of a step, drawn at random."""
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(step.changes))[:EXAMPLES_SHOWN]
    return [step.changes[i] for i in sorted(chosen)]


def _step_facts(step: StepReport, seed: int) -> dict[str, Any]:
    return {
        "name": step.name,
        "sentence": step.sentence,
        "rows_before": step.rows_before,
        "rows_after": step.rows_after,
        "changed": len(step.changes),
        "examples": [{"id": c.id, "before": c.before, "after": c.after} for c in _some(step, seed)],
    }


def _curation_page(raw: Dataset, report: CurationReport, to: Path, seed: int) -> None:
    from diptych.evaluation.report.build import curation_section, environment
    from diptych.evaluation.report.render import write_report
    from diptych.evaluation.report.sections import Report

    section = curation_section(report.steps, raw, seed=seed)
    summary = f"Of {report.rows_before:,} samples {report.rows_after:,} stay."
    page = Report(f"{raw.name}, curated", summary, [section], terminal.command(), environment())
    terminal.note(f"wrote {write_report(page, to)}")
