"""Curation: better captions, fewer repeats, no single author or phrase in excess. The source is never modified.

`curate(dataset, to)` writes a new dataset and reports every step with counts and examples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from diptych.config import as_dict
from diptych.data.curate.captions import clean_tags, rewrite_captions
from diptych.data.curate.duplicates import PictureHash, drop_duplicates, picture_hash
from diptych.data.curate.limits import cap, drop_uncaptioned
from diptych.data.curate.plan import Plan, read_plan
from diptych.data.curate.steps import Change, StepReport
from diptych.data.store import Dataset, image_source
from diptych.data.writer import DatasetWriter
from diptych.images import BadImage, decode
from diptych.types import Sample

__all__ = ["Change", "CurationReport", "Plan", "StepReport", "curate", "read_plan", "run_plan"]

_TEXT_FIELDS = ("captions", "tags", "texts", "creator")
_CHUNK = 256


class CurationReport(NamedTuple):
    """What a curation did, step by step."""

    rows_before: int
    rows_after: int
    steps: list[StepReport]


def curate(
    dataset: Dataset, to: str | Path, plan: Plan | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Dataset, CurationReport]:
    """Write a curated copy of `dataset` into the folder `to`, with plan and report in its `dataset.json`.

    Args:
        dataset: what to curate; it is only read.
        to: the new dataset's folder; an older dataset of that place is replaced.
        plan: the steps; the default plan if None.
        progress: called with (pictures hashed, pictures in all).

    Raises:
        InputError: the target is taken by something that is not a dataset.
    """
    plan = plan or Plan()
    rows, report = run_plan(dataset, plan, progress)
    place = {id: index for index, id in enumerate(dataset.ids)}
    notes = {"plan": as_dict(plan), "curation": _summary(report)}
    with DatasetWriter(to, name=f"{dataset.name}-curated", source=f"{dataset.name}, curated", notes=notes) as writer:
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            for row, full in zip(part, dataset.take([place[row.id] for row in part]), strict=True):
                writer.write(replace(full, captions=row.captions, tags=row.tags))
    return Dataset.open(writer.folder), report


def run_plan(
    dataset: Dataset, plan: Plan, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Sample], CurationReport]:
    """What `curate` would write: the rows that stay, without their pictures, and the report. Writes nothing."""
    rows = dataset.take(range(len(dataset)), fields=_TEXT_FIELDS)
    rows = [_with_path(row) for row in rows]
    steps: list[StepReport] = []

    def run(result: tuple[list[Sample], StepReport]) -> list[Sample]:
        steps.append(result[1])
        return result[0]

    rows = run(clean_tags(rows, plan.junk_tags))
    if plan.most_repeats is not None:
        rows = run(rewrite_captions(rows, plan.most_repeats, plan.context))
    if plan.require_caption:
        rows = run(drop_uncaptioned(rows))
    if plan.near_duplicates is not None:
        rows = run(drop_duplicates(rows, hash_pictures(dataset, progress), plan.near_duplicates))
    if plan.per_caption is not None:
        rows = run(cap(rows, lambda row: " | ".join(row.captions), plan.per_caption, "caption", plan.seed))
    if plan.per_creator is not None:
        rows = run(cap(rows, lambda row: row.creator or "", plan.per_creator, "creator", plan.seed))
    return rows, CurationReport(len(dataset), len(rows), steps)


def hash_pictures(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> dict[str, PictureHash]:
    """The perceptual hash of every picture that can be read, by sample id; decoded on threads."""
    hashes: dict[str, PictureHash] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for samples in _chunks(dataset):
            for sample, entry in zip(samples, pool.map(_hash, samples), strict=True):
                if entry is not None:
                    hashes[sample.id] = entry
            if progress is not None:
                progress(len(hashes), len(dataset))
    return hashes


def _chunks(dataset: Dataset) -> Iterator[list[Sample]]:
    for start in range(0, len(dataset), _CHUNK):
        yield dataset.take(range(start, min(start + _CHUNK, len(dataset))), fields=("images",))


def _hash(sample: Sample) -> PictureHash | None:
    try:
        return picture_hash(decode(image_source(sample)))
    except BadImage:
        return None


def _with_path(row: Sample) -> Sample:
    """Rows of an image folder are named by their path; scrapes carry it among their side texts."""
    return row if "path" in row.texts else replace(row, texts={**row.texts, "path": row.id})


def _summary(report: CurationReport, examples: int = 20) -> dict[str, object]:
    def step(entry: StepReport) -> dict[str, object]:
        shown: Sequence[Change] = entry.changes[:: max(1, len(entry.changes) // examples)][:examples]
        return {
            "name": entry.name,
            "sentence": entry.sentence,
            "rows_before": entry.rows_before,
            "rows_after": entry.rows_after,
            "changed": len(entry.changes),
            "examples": [asdict(change) for change in shown],
        }

    return {
        "rows_before": report.rows_before,
        "rows_after": report.rows_after,
        "steps": [step(s) for s in report.steps],
    }
