"""`diptych data export`: write a dataset in a format that other programs read."""

from __future__ import annotations

from diptych.cli import terminal
from diptych.cli.options import Json
from diptych.types import InputError


def export(dataset: str, /, *, to: str, count: int | None = None, json: Json = None) -> None:
    """Write a dataset in a public format. What the format has no room for is left out and counted.

    Args:
        dataset: A built-in one, a Diptych dataset, raw data, or a generated world.
        to: FORMAT:FOLDER; the folder must be new or empty. Formats: coco, wds (WebDataset tar shards), parquet, chat
            (JSON lines of conversations), table (open_clip's pairs), folder (metadata.jsonl).
        count: Only the first so many samples.
    """
    from diptych.data import export_dataset, open_dataset

    with terminal.Working() as working:
        opened = open_dataset(dataset, working.of("importing"))
        if count is not None:
            if count < 1:
                raise InputError(f"export: --count: expected at least one sample, got {count}")
            opened = opened.select(range(min(count, len(opened))))
        report = export_dataset(opened, to, working.of("writing"))
    if json != terminal.STDOUT:
        written = report.samples - sum(report.left_out.values())
        terminal.say(f"{report.folder}: {terminal.count(written, 'sample')} as {report.format}")
        if report.left_out:
            terminal.say(f"left out: {terminal.reasons(report.left_out)}")
    terminal.write_json({**report._asdict(), "folder": str(report.folder)}, json)
