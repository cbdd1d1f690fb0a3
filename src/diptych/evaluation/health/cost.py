"""What a picture costs on this machine: time, memory, parameters."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diptych.capabilities import WritesCaptions
from diptych.evaluation.health.choosing import can_match
from diptych.evaluation.health.finding import Finding, not_judged
from diptych.evaluation.metrics.intervals import median_interval
from diptych.tasks.caption import caption
from diptych.tasks.match import match
from diptych.tasks.running import usage_of
from diptych.types import Estimate, Sample

TEST = "cost"
PICTURES = 32
REPEATS = 5
TEXTS = 2  # of each picture


def cost(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """Parameters and their bytes, milliseconds a picture, and the memory that a batch takes beyond the model.

    Time is that of `match` with two texts a picture (of `caption` for a model that only writes captions), decoding
    included: the median of five runs after one to warm up.
    """
    if usage_of(model):  # what is asked again would be answered from the disk
        return [
            not_judged(TEST, name, "a model in this process, not a server") for name in ("size", "time", "peak memory")
        ]
    settings = {name: value for name, value in settings.items() if name != "progress"}
    pictures = [sample.images[0] for sample in samples[:PICTURES]]
    texts = [["a red cube", "a blue ball"][:TEXTS] for _ in pictures]
    if can_match(model):
        what = "compare a picture with two texts"

        def run() -> Any:
            return match(model, pictures, texts, **settings)
    elif isinstance(model, WritesCaptions):
        what = "caption a picture"

        def run() -> Any:
            return caption(model, pictures, **settings)
    else:
        return [not_judged(TEST, "time", "a model that compares pictures with texts, answers or writes captions")]
    run()
    spent = []
    peak = _Peak(_device(model))
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        spent.append(1000 * (time.perf_counter() - start) / len(pictures))
    grown = peak.grown()
    batch = min(settings.get("batch_size", 64), len(pictures))
    elapsed = median_interval(spent, rng)
    return [
        *_size(model),
        Finding(
            TEST,
            "time",
            "measured",
            f"{elapsed.value:.1f} ms to {what}, in batches of {batch} on"
            f" {_device(model)}; {1000 / max(elapsed.value, 1e-9):,.0f} pictures a second.",
            elapsed,
            unit="ms a picture",
        ),
        _memory(grown, peak, batch),
    ]


def _size(model: Any) -> list[Finding]:
    if not isinstance(model, nn.Module):
        return [not_judged(TEST, "size", "a model that lives in this process as a torch module")]
    tensors = [*model.parameters(), *model.buffers()]
    count = sum(parameter.numel() for parameter in model.parameters())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20
    said = f"{count:,} parameters; {size:,.1f} MB of weights in memory."
    value = Estimate(size, size, size, 1)
    return [Finding(TEST, "size", "measured", said, value, unit="MB", details={"parameters": count})]


class _Peak:
    """The most memory that is held at once, beyond what is held now.

    On a CUDA device the allocator's own count; else the process's resident memory (Linux keeps its peak, which is reset
    here). What the process freed before and still holds does not show, so it is a lower bound.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start: float | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
            return
        _trim()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.start = _status("VmRSS")
        except (OSError, KeyError):
            self.start = None

    def grown(self) -> float | None:
        """In MB; None where the system does not tell."""
        if self.start is None:
            return None
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device) - self.start) / 2**20
        return max(_status("VmHWM") - self.start, 0.0) / 2**20


def _memory(grown: float | None, peak: _Peak, batch: int) -> Finding:
    if grown is None:
        return not_judged(TEST, "peak memory", "Linux or a CUDA device, where the peak can be read")
    kind = "device memory" if peak.device.type == "cuda" else "resident memory of this process"
    said = f"{grown:,.0f} MB of {kind} at the peak, beyond what was held before, for batches of {batch} pictures."
    return Finding(TEST, "peak memory", "measured", said, Estimate(grown, grown, grown, 1), unit="MB")


def _trim() -> None:
    """Give memory that was freed back to the system, so that what is needed now shows as growth (glibc alone can)."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _status(name: str) -> float:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024.0 * int(line.split()[1])
    raise KeyError(name)


def _device(model: Any) -> torch.device:
    tensor = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if tensor is None else tensor.device
