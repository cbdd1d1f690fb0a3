"""The one training loop. It knows no family: a model is an `nn.Module` whose `forward(batch)` returns `Losses`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diptych.capabilities import TwoStage
from diptych.config import as_dict
from diptych.distributed import all_numbers, barrier
from diptych.machine import best_device, channels_last_pays, uses_bf16
from diptych.training.budget import budget, rate
from diptych.training.config import TrainConfig
from diptych.training.groups import adamw, arranged, assign, set_rate, training_mode
from diptych.training.progress import Display, Show
from diptych.training.run import Listener, Source, StopRequest, TrainResult, environment, stream
from diptych.training.session import Evaluate, Session
from diptych.training.step import LossesOf, Stepper
from diptych.training.teaching import Taught
from diptych.training.watch import duplicate_share


def train(  # noqa: PLR0915  (the one function that may be long)
    model: nn.Module,
    loader: Source,
    config: TrainConfig,
    out: Path,
    *,
    run: Mapping[str, Any] | None = None,
    losses: LossesOf | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = True,
    on_event: Listener | None = None,
    show: Show = "auto",
) -> TrainResult:
    """Train `model` in place, in as many processes as `diptych.distributed.setup` has joined.

    Args:
        model: is left on the device it was trained on, in evaluation mode, with its own `requires_grad` put back.
        loader: its batches; see `Source`.
        config: see `TrainConfig`.
        out: the run folder. A run that is there goes on from its newest checkpoint, bit-equal on a CPU.
        run: what else makes this run what it is (family, model config, the data's fingerprint): plain data, kept in
            `config.json`. A run is only resumed with an equal one.
        losses: what is to be minimised, of a batch; None: what the model itself gives.
        evaluate: called with the step, in evaluation mode, on the main process; its numbers go into the metrics. Where
            there are averaged weights it is called a second time with them, for numbers named "ema/...".
        resume: False refuses a folder that holds a run.
        on_event: called with every `Event`, on the main process.
        show: what is seen on standard error: "live", "plain", "silent", or "auto" for live on a terminal, else plain.

    SIGTERM and Ctrl-C save a checkpoint and return. Raises `InputError` for a wrong config, a run that cannot be
    resumed and data of which nothing can be read; `NonFiniteLoss`, which names the samples; `FrozenWeightsChanged`.
    """
    device = best_device(config.device)
    end = budget(config, loader.batch_size, len(loader))
    groups = assign(model, config.groups, config.lr)
    bf16 = uses_bf16(device, config.precision)
    resolved = {"train": as_dict(config), "batch_size": loader.batch_size, "batches": len(loader), **(run or {})}
    has_negatives = isinstance(model, TwoStage)
    with ExitStack() as stack:
        stack.callback(_lay_out, model, torch.contiguous_format)
        _lay_out(model.to(device), torch.channels_last if channels_last_pays(device) else torch.contiguous_format)
        hashes = stack.enter_context(arranged(model, groups))
        optimizer = adamw(model, groups, config)
        display = Display(show)
        stack.callback(display.close)
        session = Session(model, optimizer, config, end, out, hashes, [display, *([on_event] if on_event else [])])
        if isinstance(losses, Taught):
            losses.average = session.average
        session.restore(resolved, resume)
        barrier()  # nobody writes before everybody has read
        session.folder.begin(resolved, environment(device, bf16), session.tally.step)
        stack.callback(session.folder.close)
        stop = stack.enter_context(StopRequest())
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        batches = stack.enter_context(closing(stream(loader, session.tally)))
        stepper = Stepper(model, config, device, losses)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        tally = session.tally
        origin = f"from step {tally.step}" if tally.step else "from the start"
        session.tell("start", f"training {origin} for {end}, on {device.type} in {'bf16' if bf16 else 'fp32'}")
        for group in groups:
            session.tell("note", str(group))

        training_mode(model)
        while not (session.ended or session.stopped):
            began = time.monotonic()
            batch = next(batches)
            sizes = [int(row[0]) for row in all_numbers([len(batch)])]
            if min(sizes) == 0:
                session.leave_out(sum(sizes), stop.wanted)
                continue
            duplicates = {}
            if has_negatives and batch.tokens is not None:
                duplicates["duplicate_captions"] = duplicate_share(batch.tokens)
            batch = batch.to(device)

            factor = rate(end.progress(tally.step + 0.5, tally.elapsed), config.warmup)
            set_rate(optimizer, factor)
            values = stepper(batch, tally.step, sizes)
            norm = float(nn.utils.clip_grad_norm_(trained, config.clip or math.inf))
            state = all_numbers([math.isfinite(values["loss"]), stop.wanted, session.clock()])
            if not all(finite for finite, _, _ in state):
                session.give_up(batch, device)
            skipped = not math.isfinite(norm)
            if not skipped:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            tally.step, tally.samples, tally.elapsed = tally.step + 1, tally.samples + sum(sizes), state[0][2]
            tally.skipped += skipped
            if session.average is not None:
                session.average.update(tally.step)
            values |= duplicates | {"grad_norm": norm, "skipped": float(skipped)}
            tally.add(values, len(batch), time.monotonic() - began)
            if session.due(config.log_every) or tally.step == 1:
                session.log(config.lr * factor)
            if evaluate is not None and session.due(config.evaluate_every):
                session.evaluate(evaluate)
            session.stopped = any(wanted for _, wanted, _ in state)
            if session.stopped or session.due(config.checkpoint_every):
                session.save()

        verb = "finished" if session.ended else "interrupted; the same command goes on from here"
        session.tell("end", f"{tally.step} steps, {tally.samples} samples: {verb}")
        return session.result(loader)


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Store the weights in `layout` and leave evaluation mode on; the loop switches to training mode itself."""
    model.to(memory_format=layout).eval()  # type: ignore[call-overload]
