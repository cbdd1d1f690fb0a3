"""`diptych data import`: raw data to a dataset."""

from __future__ import annotations

from pathlib import Path

from diptych.cli import terminal
from diptych.cli.options import Json


def import_(
    source: str,
    /,
    *,
    to: Path,
    name: str | None = None,
    root: Path | None = None,
    threads: int | None = None,
    json: Json = None,
) -> None:
    """Make a dataset from raw data. A bad row stops nothing: it is kept aside with its reason and counted.

    Args:
        source: A folder of pictures with or without captions, a CSV, TSV or JSON-lines table with a column of paths,
            Parquet, or any other format (docs/formats.md), whose name may stand before the path:
            coco:ROOT?split=val2017.
        to: The new dataset's folder; an older dataset of that place is replaced.
        name: What to call it; the source's name by default.
        root: The folder that the paths of pictures in a table start from; the table's own by default.
        threads: How many threads read and decode; one a core by default.
    """
    from diptych.data import import_dataset

    with terminal.Working() as working:
        progress = working.of("importing")
        report = import_dataset(source, to.expanduser(), progress, name=name, root=root, threads=threads)
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
