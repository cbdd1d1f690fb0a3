"""`diptych eval`: what models understand, with intervals and chance levels, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.estimates import show_differences, show_side_by_side
from diptych.cli.options import Device, Json, ModelName, Seed
from diptych.evaluation import Task
from diptych.types import InputError

UNSAFE = re.compile(r"[^\w.-]+")


def evaluate(
    *models: ModelName,
    data: Annotated[list[str], Parameter(consume_multiple=True)],
    task: Task = "retrieve",
    labels: str | None = None,
    judge: str | None = None,
    held_out: float | None = None,
    split_by: str = "creator",
    html: Path | None = None,
    predictions: Path | None = None,
    batch_size: int | None = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Judge models on datasets: every number with its interval, n and what guessing would reach.

    n is how many queries, pictures or questions a number rests on. Several models are compared with the first one on
    the same samples: the difference, its interval, and a p-value.

    Args:
        models: One or several models.
        data: One or several datasets: a built-in one, a Diptych dataset or raw data.
        task: retrieve (do texts and pictures find each other), classify (pictures find the name of their class),
            caption (write one), answer (questions), match (true captions against wrong ones that are close), fill
            (hidden words of captions), probe (a linear map tells classes by frozen features), detect (boxes), segment
            (masks), draw (a picture for a caption).
        labels: For classify: the classes to choose from, separated by commas; by default those of the dataset.
        judge: For caption and draw: a dual encoder ("pocket" or another model's address) that says how well pictures
            and texts fit (CLIPScore). For retrieve: a model that reads picture and text together, which is too slow to
            look at all pairs: it puts the 16 best candidates of each query in its own order.
        held_out: Judge on this share of the data only: with the --loader.held_out, --loader.split_by and --loader.seed
            of a training run (0.1, creator and 0 by default) exactly what that run did not see.
        split_by: For --held-out: samples with the same value of this field stay on one side, e.g. creator or id.
        html: Write the report to this file, one self-contained page.
        predictions: Write what the models said into this folder, in the formats of COCO's and VQA's servers.
        batch_size: Pictures that the model sees at once; what suits the task by default.
    """
    from diptych import api
    from diptych.evaluation.judged import differences as compare_all
    from diptych.evaluation.report.build import evaluation_report
    from diptych.evaluation.report.render import write_report

    if not models:
        raise InputError("expected at least one model")
    options = _options(task, labels, judge) | {"device": device, "seed": seed}
    if batch_size is not None:
        options["batch_size"] = batch_size
    with terminal.Working() as working:
        datasets = {name: _opened(name, held_out, split_by, seed, working) for name in data}
        if judge is not None:
            options["by" if task == "retrieve" else "judge"] = api.load(judge, working)
        results = _judge(models, datasets, task, options, working)
    differences = {name: compare_all(of_models, seed) for name, of_models in results.items()}
    said = [
        sentence
        for name, of_models in results.items()
        for sentence in show_differences(differences[name], next(iter(of_models)), name if len(results) > 1 else "")
    ]
    if json != terminal.STDOUT:
        show_side_by_side(
            {name: {model: result.estimates for model, result in of.items()} for name, of in results.items()}
        )
    for name, of_models in results.items():
        for model, result in of_models.items():
            for note in _notes(result):
                terminal.note(f"{model} on {name}: {note}")
            left_out = {reason: number for reason, number in result.left_out().items() if number}
            if left_out:
                terminal.note(f"{model} on {name}: left out: {terminal.reasons(left_out)}", "yellow")
            if predictions is not None:
                _write_predictions(result, predictions.expanduser() / _safe(model) / _safe(name))
    if json != terminal.STDOUT:
        for sentence in said:
            terminal.say(sentence)
    terminal.write_json(_as_json(task, results, differences), json)
    if html is not None:
        report = evaluation_report(results, {name: datasets[name] for name in results}, said, terminal.command(), seed)
        terminal.note(f"wrote {write_report(report, html.expanduser())}")


def _options(task: Task, labels: str | None, judge: str | None) -> dict[str, Any]:
    """What only some tasks take, after a check that this one does."""
    if judge is not None and task not in ("caption", "draw", "retrieve"):
        raise InputError(f"--judge: only --task caption, draw and retrieve are judged by a model, not {task}")
    if labels is None:
        return {}
    if task != "classify":
        raise InputError(f"--labels: only --task classify has classes, not {task}")
    names = [name.strip() for name in labels.split(",") if name.strip()]
    if not names:
        raise InputError(f"--labels: expected names of classes, separated by commas, got {labels!r}")
    return {"labels": names}


def _judge(
    models: Sequence[str],
    datasets: Mapping[str, Any],
    task: Task,
    options: Mapping[str, Any],
    working: terminal.Working,
) -> dict[str, dict[str, Any]]:
    """What came out, by dataset and model. With several of them, a pair that cannot be judged is named and left out."""
    from diptych import api
    from diptych.tasks.running import usage_of

    results: dict[str, dict[str, Any]] = {name: {} for name in datasets}
    alone = len(models) * len(datasets) == 1
    for model in dict.fromkeys(models):
        loaded = api.load(model, working)
        try:
            for name, dataset in datasets.items():
                progress = working.of("pictures" if alone else f"{model} on {name}")
                try:
                    results[name][model] = api.evaluate(loaded, dataset, task, progress=progress, **options)
                except InputError as error:
                    if alone:
                        raise
                    terminal.note(f"{model} on {name}: left out: {error}", "yellow")
        finally:  # what was asked is paid for, however it ended
            if usage := usage_of(loaded):
                terminal.note(f"{model}: {usage}")
    results = {name: of_models for name, of_models in results.items() if of_models}
    if not results:
        raise InputError("no model could be judged on any of the data")
    return results


def _opened(name: str, held_out: float | None, split_by: str, seed: int, working: terminal.Working) -> Any:
    from diptych.data import open_dataset

    dataset = open_dataset(name, working.of("importing"))
    return dataset if held_out is None else dataset.split(held_out, by=split_by, seed=seed)[1]


def _safe(name: str) -> str:
    return UNSAFE.sub("_", name).strip("._") or "_"


def _write_predictions(result: Any, folder: Path) -> None:
    made = getattr(result, "predictions", None)
    if made is None:
        terminal.note("--predictions: there is no official format for this task", "yellow")
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / made.file).write_text(dumps(made.entries, ensure_ascii=False), encoding="utf-8")
    terminal.note(f"wrote {folder / made.file}")


def _notes(result: Any) -> list[str]:
    """What a reader of the numbers must know; retrieval and classification need none."""
    return list(getattr(result, "notes", []))


def _as_json(task: str, results: Mapping[str, Mapping[str, Any]], differences: Mapping[str, Any]) -> dict[str, Any]:
    from diptych.evaluation import to_json

    return {
        "task": task,
        "results": [
            {
                "model": model,
                "data": name,
                "estimates": to_json(result.estimates),
                "left_out": {reason: number for reason, number in result.left_out().items() if number},
                "notes": _notes(result),
            }
            for name, of_models in results.items()
            for model, result in of_models.items()
        ],
        "differences": [
            {"data": name, "model": model, "metric": metric, **found.estimate._asdict(), "p": found.p}
            for name, of_models in differences.items()
            for model, metrics in of_models.items()
            for metric, found in metrics.items()
        ],
    }
