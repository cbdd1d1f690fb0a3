"""What comparisons of trained families share: a run of `diptych train` and its cost, blanked pictures, the table."""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.machine import cores
from diptych.types import Estimate


def add_budget(parser: argparse.ArgumentParser, *, lr: str, batch: str) -> None:
    """The options that every family is trained and judged by."""
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--lr", default=lr)
    parser.add_argument("--batch", default=batch)
    parser.add_argument("--processes", type=int, default=cores(), help="one a core")
    parser.add_argument("--test", type=int, default=300, help="unseen scenes")


def train(
    family: str, data: str, folder: Path, options: argparse.Namespace, further: Sequence[str] = (), what: str = ""
) -> dict[str, str]:
    """Train in processes of its own; what it cost, each name after `what`.

    The memory is the peak of the largest process, the judging of the held-out part included; the time is that of the
    training alone.
    """
    settings = {
        "training.minutes": options.minutes,
        "training.lr": options.lr,
        "loader.batch_size": options.batch,
        "loader.split_by": "id",
        "loader.held_out": 0.005,
    }
    command = [sys.executable, "-m", "diptych", "train", family, "--data", data, "--out", str(folder)]
    command += ["--processes", str(options.processes), *further]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(" ".join(command[1:]), flush=True)
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{family}: training ended with {os.waitstatus_to_exitcode(status)}")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "train"][-1]
    parameters = sum(one.numel() for one in diptych.load(folder).parameters())
    return {
        f"{what}pictures seen": f"{last['samples']:,.0f} in {last['elapsed']:.0f} s",
        f"{what}memory": f"{_peak(used):.1f} GiB",
        "parameters": f"{parameters / 1e6:.1f} M",
    }


@contextmanager
def blanked(model: Any) -> Iterator[None]:
    """While inside, the model sees grey in the place of every picture."""
    decode = model.processor.decode_image
    model.processor.decode_image = lambda source: np.full_like(np.asarray(decode(source)), 128)
    try:
        yield
    finally:
        model.processor.decode_image = decode


def beside_blanked(model: Any, judged: Callable[[Any], Mapping[str, Estimate]]) -> dict[str, str]:
    """What a model reaches, with its interval, and what it reaches blind; CIDEr-D as it is, all else as shares."""
    seen = judged(model)
    with blanked(model):
        blind = judged(model)
    return {
        name: f"{_shown(one, name)}; blanked {_number(blind[name].value, name)}, guessed {_number(one.chance, name)}"
        for name, one in seen.items()
    }


def table(rows: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Print families side by side, a column each, in Markdown."""
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    print(f"| | {' | '.join(family for family, _ in rows)} |\n|---{'|---' * len(rows)}|")
    for name in names:
        print(f"| {name} | {' | '.join(found.get(name, '') for _, found in rows)} |")


def _peak(used: resource.struct_rusage) -> float:
    """Peak of resident memory in GiB; macOS counts bytes, Linux kibibytes."""
    return used.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "?"
    return f"{value:.2f}" if name == "CIDEr-D" else f"{100 * value:.1f} %"


def _shown(one: Estimate, name: str) -> str:
    low, high = (_number(end, name).removesuffix(" %") for end in (one.low, one.high))
    return f"{_number(one.value, name)} ({low} to {high})"
