"""What this machine is good at: device, precision and memory format are chosen from what it has, by default.

The choice matters more than any tuning after it; `benchmarks/towers.py` shows by how much.
"""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from diptych.types import InputError

Precision = Literal["auto", "fp32", "bf16"]


def best_device(requested: str = "auto") -> torch.device:
    """The device to compute on: the one asked for, or with "auto" this process's CUDA GPU, Apple's GPU or the CPU.

    Raises `InputError` for a device that this machine does not have.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise InputError(f'device: expected "auto", "cpu", "cuda", "cuda:N" or "mps", got {requested!r}') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device: {requested!r} was asked for, this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device: 'mps' was asked for, this machine has no Apple GPU that torch can use")
    return device


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bf16_pays(device: torch.device | str) -> bool:
    """Whether bfloat16 arithmetic is native here: CUDA from Ampere on, CPUs with avx512_bf16 or amx_bf16.

    Elsewhere a CPU emulates it and becomes slower than in float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return kind == "cpu" and bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def uses_bf16(device: torch.device | str, precision: Precision = "auto") -> bool:
    """What `autocast` does with this request: True for bfloat16, False for float32."""
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f'precision: expected "auto", "fp32" or "bf16", got {precision!r}')
    return precision == "bf16" or (precision == "auto" and bf16_pays(device))


def autocast(device: torch.device | str, precision: Precision = "auto") -> AbstractContextManager[Any]:
    """Context in which matrix products and convolutions run in bfloat16, where asked for or where it pays ("auto")."""
    if not uses_bf16(device, precision):
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def channels_last_pays(device: torch.device | str) -> bool:
    """Whether convolutions are faster with channels stored last: with oneDNN (CPU) and cuDNN (CUDA), not on Apple."""
    return torch.device(device).type in ("cpu", "cuda")


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """The processor's feature flags as Linux lists them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
