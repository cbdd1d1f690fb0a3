"""What the loop does now and then: log, evaluate, warn, save, go on from what was saved, give up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from diptych.distributed import all_numbers, all_objects, is_main
from diptych.training import checkpoint
from diptych.training.budget import Budget
from diptych.training.config import TrainConfig
from diptych.training.ema import Average
from diptych.training.groups import frozen_tensors, training_mode
from diptych.training.run import Event, Listener, RunFolder, Source, Tally, TrainResult
from diptych.training.step import offenders
from diptych.training.watch import NonFiniteLoss, Watch
from diptych.types import Batch, InputError

Evaluate = Callable[[int], Mapping[str, float]]


class Session:
    """One run from its start, or from its last checkpoint, to its end or an interruption.

    Attributes:
        tally: what has been counted; the loop and the stream of batches move it on.
        ended: whether the budget is used up.
        stopped: whether somebody asked for an early end.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        end: Budget,
        out: Path,
        frozen: Mapping[str, str],
        listeners: Sequence[Listener],
    ) -> None:
        self.model, self.optimizer, self.config, self.end = model, optimizer, config, end
        self.frozen = dict(frozen)
        self.listeners = listeners if is_main() else ()
        self.folder = RunFolder(out, is_main())
        self.tally = Tally()
        self.watch = Watch(config.warmup)
        self.average = Average(model, config.ema) if config.ema else None
        self.stopped = False
        self._started = time.monotonic()

    def restore(self, resolved: Mapping[str, Any], resume: bool) -> None:
        """Go on from the folder's newest checkpoint, if any. Raises `InputError` where that is not of this run."""
        paths = checkpoint.found(self.folder.checkpoints)
        if not paths:
            return
        path = paths[-1]
        if not resume:
            raise InputError(f"{path}: expected a folder without a run; resume the one that is there or choose another")
        self.folder.same_run(resolved)
        state, average = checkpoint.load(path)
        if state["frozen"] != self.frozen:
            raise InputError(f"{path}: cannot resume: the frozen weights are not those that the run was started with")
        missing, unexpected = self.model.load_state_dict(state["model"], strict=False)
        wrong = sorted(set(missing) - set(frozen_tensors(self.model)) | set(unexpected))
        if wrong:
            raise InputError(f"{path}: cannot resume: it is of a model with other parameters, e.g. {wrong[0]}")
        self.optimizer.load_state_dict(state["optimizer"])
        self.tally = Tally(**state["tally"])
        self.watch.load(state["watch"])
        if self.average is not None and average is not None:
            self.average.load(average)
        self._started = time.monotonic() - self.tally.elapsed

    @property
    def ended(self) -> bool:
        return self.end.done(self.tally.step, self.tally.elapsed)

    @property
    def progress(self) -> float:
        """The share of the run, in [0, 1], that is done."""
        return self.end.progress(self.tally.step, self.tally.elapsed)

    def clock(self) -> float:
        """Seconds that the run has taken, interruptions not counted."""
        return time.monotonic() - self._started

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return self.ended or (every > 0 and self.tally.step % every == 0)

    def leave_out(self, rows: int, wanted: bool) -> None:
        """After a batch of which some process could read nothing. A collective: every process must come here.

        Args:
            rows: that others could read, and that are lost with it.
            wanted: whether this process is to stop.
        """
        state = all_numbers([wanted, self.clock()])
        self.tally.elapsed = state[0][1]
        if rows:
            self.tell("note", f"a batch was left out: a process could read no row of its part; {rows} others were lost")
        self.stopped = any(row[0] for row in state)
        if self.stopped:
            self.save()

    def tell(
        self, kind: str, text: str = "", values: Mapping[str, float] | None = None, path: Path | None = None
    ) -> None:
        """Let everybody who listens know."""
        for listener in self.listeners:
            listener(Event(kind, self.tally.step, self.progress, text, values or {}, path))

    def log(self, rate: float) -> None:
        """Write the averages since the last call, and any new warning. A collective: every process must come here."""
        values = self.tally.window()
        counts = {"epoch": self.tally.epoch, "samples": self.tally.samples, "lr": rate, "elapsed": self.tally.elapsed}
        self.folder.write("train", self.tally.step, counts | values)
        self.tell("log", values=values)
        warnings = self.watch.look(self.tally.step, self.progress, values)
        warnings += self.watch.end(self.tally.step, values) if self.ended else []
        for sentence in warnings:
            self.folder.write("warning", self.tally.step, {"text": sentence})
            self.tell("warning", sentence)

    def evaluate(self, hook: Evaluate) -> None:
        """Ask the hook, with the weights as they are and, where there are averaged ones, with these."""
        if not is_main():
            return
        self.model.eval()
        values = {name: float(value) for name, value in hook(self.tally.step).items()}
        if self.average is not None:
            with self.average.applied():
                values |= {f"ema/{name}": float(value) for name, value in hook(self.tally.step).items()}
        training_mode(self.model)
        self.folder.write("evaluate", self.tally.step, values)
        self.tell("evaluate", values=values)

    def save(self) -> None:
        """Write a checkpoint. What is frozen is not in it: the caller's model brings it, and its hash is compared."""
        if not is_main():
            return
        frozen = frozen_tensors(self.model)
        state = {
            "model": {name: value for name, value in self.model.state_dict().items() if name not in frozen},
            "optimizer": self.optimizer.state_dict(),
            "tally": asdict(self.tally),
            "watch": self.watch.state(),
            "frozen": self.frozen,
        }
        self.folder.to_disk()
        average = self.average.weights if self.average else None
        path = checkpoint.save(self.folder.checkpoints, self.tally.step, state, average, self.config.keep)
        self.tell("checkpoint", path=path)

    def give_up(self, batch: Batch, device: torch.device) -> NoReturn:
        """Raise `NonFiniteLoss` with the ids behind it. A collective. Weights and checkpoints stay as they were."""
        blamed: list[str] = sum(all_objects(offenders(self.model, batch, device, self.config)), [])
        samples = sum(all_objects(len(batch)))
        saved = checkpoint.found(self.folder.checkpoints)
        raise NonFiniteLoss(
            self.tally.step + 1, blamed, samples, f"last checkpoint: {saved[-1].name if saved else 'none'}"
        )

    def result(self, loader: Source) -> TrainResult:
        """What came of it."""
        tally = self.tally
        average = {name: weight.cpu() for name, weight in self.average.weights.items()} if self.average else None
        return TrainResult(
            steps=tally.step,
            samples=tally.samples,
            elapsed=tally.elapsed,
            values=tally.last,
            warnings=list(self.watch.warnings),
            skipped=tally.skipped,
            rejected=list(loader.rejected),
            finished=self.ended,
            ema=average,
            folder=self.folder.path,
        )
