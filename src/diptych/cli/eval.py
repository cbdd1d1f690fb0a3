"""`diptych eval`: what a model understands, with intervals and chance levels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from diptych.cli import terminal
from diptych.cli.estimates import show_estimates
from diptych.cli.options import Device, Json, ModelName, Seed
from diptych.types import InputError


def evaluate(
    model: ModelName,
    /,
    *,
    data: str,
    task: Literal["retrieval", "zero-shot"] = "retrieval",
    labels: str | None = None,
    held_out: float | None = None,
    split_by: str = "creator",
    html: Path | None = None,
    batch_size: int = 64,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Judge a model on a dataset: every number with its interval, n and what guessing would reach.

    Args:
        data: A built-in dataset, a Diptych dataset or raw data, with captions for retrieval or labels for zero-shot.
        task: Do texts and pictures find each other, or do pictures find the name of their class?
        labels: For zero-shot: the classes to choose from, separated by commas; by default those of the dataset.
        held_out: Judge on this share of the data only: with the --loader.held_out, --loader.split_by and --loader.seed
            of a training run (0.1, creator and 0 by default) exactly what that run did not see.
        split_by: Field whose equal values stay together in that split.
        html: Write the report, one self-contained page.
        batch_size: Pictures that the model sees at once.
    """
    from diptych import api
    from diptych.data import open_dataset
    from diptych.evaluation import to_json
    from diptych.evaluation.report import build
    from diptych.evaluation.report.render import write_report
    from diptych.evaluation.retrieve import RetrievalResult

    with terminal.Working() as working:
        dataset = open_dataset(data, working.of("importing"))
        if held_out is not None:
            dataset = dataset.split(held_out, by=split_by, seed=seed)[1]
        loaded = api.load(model, working)
        options = {"labels": [name.strip() for name in labels.split(",")]} if labels else {}
        if options and task != "zero-shot":
            raise InputError(f"--labels: only --task zero-shot has classes, not {task}")
        progress = working.of("pictures")
        result = api.evaluate(
            loaded, dataset, task, batch_size=batch_size, device=device, seed=seed, progress=progress, **options
        )
    if json != terminal.STDOUT:
        show_estimates(f"{model} on {dataset.name}", result.estimates)
    left_out = {reason: number for reason, number in result.left_out().items() if number}
    if left_out:
        terminal.note(f"left out: {terminal.reasons(left_out)}", "yellow")
    terminal.write_json(to_json(result.estimates), json)
    if html is not None:
        if isinstance(result, RetrievalResult):
            report = build.retrieval_report(model, result, dataset, terminal.command(), seed)
        else:
            report = build.zero_shot_report(model, result, dataset, terminal.command())
        terminal.note(f"wrote {write_report(report, html.expanduser())}")
