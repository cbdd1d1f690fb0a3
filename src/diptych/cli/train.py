"""`diptych train`: a family on a dataset, judged on a held-out part, saved in the run folder."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.estimates import show_estimates
from diptych.cli.options import Json
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.fitting import Trained


def train(
    family: str,
    /,
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    data: str,
    out: Path,
    preset: str | None = None,
    start: Path | None = None,
    config: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    processes: int = 1,
    no_resume: bool = False,
    dry_run: bool = False,
    json: Json = None,
) -> int:
    """Train a family on a dataset, judge it on a held-out part, and save it in OUT/model.

    Any setting can be given as --SECTION.FIELD VALUE: sections are model, training and loader, e.g. --training.lr 1e-3,
    --training.minutes 5, --loader.batch_size 256, --loader.held_out 0.1, --model.embed_dim 64. --dry-run prints all of
    them with their values. A run that was interrupted goes on with the same command.

    Args:
        family: One that `diptych list families` names, or "module:Class".
        data: A dataset with captions: a built-in one, a Diptych dataset, or raw data.
        out: The run folder, for settings, metrics, curves, checkpoints and the model; other verbs take it as a model.
        preset: One of the family's presets, which "diptych list families" names; the first by default.
        start: A trained model of the family, or its run folder, that is trained further instead of a fresh one.
        config: A JSON or TOML file with the sections model, training and loader; what is given as --SECTION.FIELD
            counts more.
        seed: Decides the first weights, the held-out part and the order: --training.seed and --loader.seed in one.
        device: cpu, cuda, cuda:N or mps; the best that the machine has by default.
        processes: That share each batch on this machine, one for each GPU. On a CPU small models train faster in one
            for each core than in one with as many threads. `torchrun` does the same, also over several machines.
        no_resume: Refuse a folder that holds a run instead of going on with that run.
        dry_run: Print the resolved settings and train nothing.
    """
    from diptych import fitting, recipes
    from diptych.config import as_dict, read_file
    from diptych.data import open_dataset

    given = {name: str(value) for name, value in (("training.seed", seed), ("loader.seed", seed)) if value is not None}
    if device is not None:
        given["training.device"] = device
    from_file = {} if config is None else read_file(config.expanduser())
    recipe = recipes.recipe(
        family,
        preset=preset,
        start=None if start is None else start.expanduser(),
        settings=from_file,
        overrides=given | parse_settings(settings),
        source=str(config),
    )
    if dry_run:
        parts = {name: as_dict(getattr(recipe, name)) for name in recipes.SECTIONS}
        terminal.write_json({"family": family, **parts}, json or terminal.STDOUT)
        return 0
    if processes != 1 and "RANK" not in os.environ:
        run_in(processes, data)
    speaks = terminal.speaks()
    with terminal.Working() as working:
        dataset = open_dataset(data, working.of("importing") if speaks else None)
        trained = fitting.train(
            recipe,
            dataset,
            out.expanduser(),
            resume=not no_resume,
            command=terminal.command(),
            progress=working if speaks else None,
        )
    if not speaks:
        return 0
    if trained.held_out is None and recipe.loader.held_out:
        share, field = recipe.loader.held_out, recipe.loader.split_by
        terminal.note(
            f"nothing was judged: none of the few values of '{field}' fell into the share of {share} to hold out; "
            "try --loader.split_by id, another --seed or a larger share",
            "yellow",
        )
    return _report(trained, json)


def run_in(processes: int, data: str) -> NoReturn:
    """Give this command over to torchrun, which runs it in so many processes of this machine.

    Raw data is imported first, once for all. The cores are shared among the processes, unless OMP_NUM_THREADS says
    otherwise. Raises `InputError` below 1.
    """
    from diptych.data import open_dataset
    from diptych.machine import cores

    if processes < 1:
        raise InputError(f"train: --processes: expected 1 or more, got {processes}")
    with terminal.Working() as working:
        open_dataset(data, working.of("importing"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # not once for each process that all parameters were used
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    # without "--" torchrun takes `--start` for a beginning of its own `--start-method`
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "--", "diptych", *sys.argv[1:]])


def parse_settings(words: tuple[str, ...]) -> dict[str, str]:
    """`--section.field value` and `--section.field=value` as texts by dotted name. Raises `InputError`."""
    found: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if not name.startswith("--"):
            raise InputError(f"train: unexpected '{name}'; settings are written --section.field value")
        if "." not in name:
            raise InputError(f"train: unknown option '{name}'; settings are written --section.field value")
        if not equals and not waiting:
            raise InputError(f"train: {name}: expected a value")
        found[name.removeprefix("--")] = value if equals else waiting.pop(0)
    return found


def _report(trained: Trained, json: str | None) -> int:
    """Say what came of it; the exit code is 1 for a run that was interrupted."""
    from diptych.evaluation import to_json

    run = trained.run
    if run is not None and not run.finished:
        terminal.note(f"interrupted at step {run.steps}; the same command goes on from there", "yellow")
        return 1
    warnings = [] if run is None else run.warnings
    if json != terminal.STDOUT:
        if trained.held_out is not None:
            show_estimates(f"held out: {terminal.count(len(trained.held_out), 'sample')}", trained.estimates)
            for reason in trained.unjudged:
                terminal.say(f"not judged: {reason}")
        if run is not None and run.rejected:
            reasons = Counter(row.reason for row in run.rejected)
            terminal.say(f"left out of training: {terminal.reasons(reasons)}")
        terminal.say(f"model: {trained.folder}")
    for warning in warnings:
        terminal.note(f"warning: {warning}", "bold yellow")
    result: dict[str, Any] = {
        "model": str(trained.folder),
        "held_out": 0 if trained.held_out is None else len(trained.held_out),
        "estimates": to_json(trained.estimates),
        "unjudged": trained.unjudged,
        "warnings": warnings,
    }
    if run is not None:
        result |= {"steps": run.steps, "samples": run.samples, "seconds": run.elapsed}
    terminal.write_json(result, json)
    return 0
