"""The run folder, what a run counts, and what it reports."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from diptych.distributed import all_objects, all_sum, world_size
from diptych.machine import cores
from diptych.types import Batch, InputError, Rejected

UNTOUCHED = ("keep", "checkpoint_every", "evaluate_every", "device")  # may change on resume: they change no loss


class Source(Protocol):
    """The loader, as far as the loop knows it."""

    batch_size: int  # samples in a global batch, over all processes
    rejected: list[Rejected]

    def __len__(self) -> int:
        """Batches in an epoch, the same number on every process."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """This process's part of the batches from `start` on of an epoch, whose order depends on nothing else."""
        ...


class Event(NamedTuple):
    """Something that happened in a run.

    Attributes:
        kind: "start", "note", "log", "evaluate", "warning", "checkpoint" or "end".
        step: optimizer steps done.
        progress: share of the run that is done.
        text: a sentence, or empty.
        values: numbers that go with it.
        folder: of the checkpoint.
    """

    kind: str
    step: int
    progress: float
    text: str = ""
    values: Mapping[str, float] = {}  # noqa: RUF012  (never mutated)
    folder: Path | None = None


@dataclass
class Tally:
    """What a run counts; saved in every checkpoint.

    Attributes:
        step: optimizer steps done, skipped ones included.
        epoch: passes over the data done.
        position: batches taken from the present pass.
        samples: samples seen, over all processes.
        elapsed: seconds, interruptions not counted.
        skipped: steps whose gradient was not finite, so that the weights stayed as they were.
        sums, weights: of each number since the last log line, its sum over the samples and their count.
        weight, seconds: samples since then, and how long they took.
        last: that line's numbers.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    samples: int = 0
    elapsed: float = 0.0
    skipped: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    weight: int = 0
    seconds: float = 0.0
    last: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], samples: int, seconds: float) -> None:
        """One step's numbers of this process."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * samples
            self.weights[name] = self.weights.get(name, 0) + samples
        self.weight += samples
        self.seconds += seconds

    def window(self) -> dict[str, float]:
        """The means since the last call over all samples of all processes, and "samples_per_second".

        A number that some batches do not have, such as the share of right answers where nobody was asked, is averaged
        over the others.
        """
        names = sorted(set().union(*all_objects(list(self.sums))))
        own = [count for name in names for count in (self.sums.get(name, 0.0), self.weights.get(name, 0))]
        *totals, samples = all_sum(torch.tensor([*own, self.weight], dtype=torch.float64)).tolist()
        means = {name: total / weight for name, total, weight in zip(names, totals[::2], totals[1::2])}
        means["samples_per_second"] = samples / self.seconds
        self.sums, self.weights, self.weight, self.seconds, self.last = {}, {}, 0, 0.0, means
        return means


@dataclass(frozen=True)
class TrainResult:
    """What came of a run.

    Attributes:
        steps: optimizer steps done.
        samples: samples seen, over all processes.
        elapsed: seconds, interruptions not counted.
        values: the last log line, e.g. {"loss": 1.2, "loss/itc": 1.2}.
        warnings: every sign that nothing was learnt, a sentence each.
        skipped: steps whose gradient was not finite.
        rejected: rows that could not be read since the run was last started, on this process.
        finished: False where SIGTERM or Ctrl-C ended the run early; the same call goes on from there.
        ema: the averaged weights of the trained parameters, where asked for; `state_dict` names.
        folder: the run's folder.
    """

    steps: int
    samples: int
    elapsed: float
    values: dict[str, float]
    warnings: list[str]
    skipped: int
    rejected: list[Rejected]
    finished: bool
    ema: dict[str, Tensor] | None
    folder: Path


class RunFolder:
    """`config.json`, `environment.json`, `metrics.jsonl`, `tensorboard/` and `checkpoints/` of one run.

    Only the main process writes; elsewhere `main` is False and every method that writes does nothing.
    """

    def __init__(self, path: Path, main: bool) -> None:
        self.path = path
        self.main = main
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self._board: Any = None

    def same_run(self, config: Mapping[str, Any]) -> None:
        """Raises `InputError`, naming the first field that differs, unless the folder's run began with `config`."""
        path = self.path / "config.json"
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read, expected the config of the run to resume: {error}") from None
        here = json.loads(json.dumps(config))
        for name, (old, new) in _differences(there, here):
            if name.removeprefix("train.") not in UNTOUCHED:
                raise InputError(
                    f"{path}: cannot resume: {name} was {old!r} and is now {new!r}; use the same config and data, or "
                    "another run folder"
                )

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any], step: int) -> None:
        """Write what the run is, cut metrics after `step`, and open the logs."""
        if not self.main:
            return
        from tensorboardX import SummaryWriter

        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", config)
        write_json(self.path / "environment.json", environment)
        cut_metrics(self.metrics, step)
        self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line of metrics, and its numbers as curves."""
        if not self.main:
            return
        plain = {name: value if _jsonable(value) else None for name, value in values.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **plain}) + "\n")
        for name, value in plain.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name if "/" in name else f"{kind}/{name}", value, step)

    def to_disk(self) -> None:
        """Force the metrics to disk, so that no checkpoint is ever ahead of them."""
        if self.main and self.metrics.exists():
            with self.metrics.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Flush the curves."""
        if self._board is not None:
            self._board.close()


class StopRequest:
    """While inside, SIGTERM and Ctrl-C set `wanted` instead of ending the process; a second one ends it as usual."""

    def __init__(self) -> None:
        self.wanted = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self.__exit__()


def stream(loader: Source, tally: Tally) -> Generator[Batch]:
    """Batches without end from where `tally` stands, which moves on with every batch.

    Raises `InputError` after a whole epoch in which no sample could be read.
    """
    while True:
        samples, whole = tally.samples, tally.position == 0
        for batch in loader.epoch(tally.epoch, tally.position):
            tally.position += 1
            yield batch
        if whole and tally.samples == samples:
            reasons = sorted({row.reason for row in loader.rejected})
            raise InputError(
                f"training data: no sample of a whole epoch could be read: {', '.join(reasons) or 'no rows'}"
            )
        tally.epoch, tally.position = tally.epoch + 1, 0


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, and a half line that a crash left."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    _replace(path, "".join(kept) if step else "")


def environment(device: torch.device, bf16: bool) -> dict[str, Any]:
    """What the run was computed with: versions, cores, threads, device, precision."""
    versions = {}
    for package in ("diptych", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "Pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": "bf16" if bf16 else "fp32",
        "processes": world_size(),
    }


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """`data` as readable JSON, whole or not at all."""
    _replace(path, json.dumps(data, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.writing")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The dotted names of plain values that differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, (old, new)


def _jsonable(value: Any) -> bool:
    """JSON has no infinity and no NaN."""
    return not isinstance(value, float) or math.isfinite(value)


Listener = Callable[[Event], None]
