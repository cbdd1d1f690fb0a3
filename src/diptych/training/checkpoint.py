"""Checkpoints that are whole or not there: written beside, forced to disk, then renamed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.types import InputError

_NAME = re.compile(r"step-(\d{8})")


def save(folder: Path, step: int, state: dict[str, Any], average: dict[str, Tensor] | None, keep: int) -> Path:
    """Write `folder/step-N` and delete all but the newest `keep` checkpoints.

    A crash at any moment leaves the earlier checkpoints whole and no half one under a final name.

    Args:
        folder: holds the run's checkpoints; made where missing.
        step: its number.
        state: tensors and plain values only, for `state.pt`.
        average: the averaged weights, for `ema.safetensors`.
        keep: at least 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final, writing = folder / f"step-{step:08d}", folder / f".writing-step-{step:08d}"
    if final.exists():  # the same run at the same step has the same state
        return final
    for half in folder.glob(".*-step-*"):  # what a crash left
        shutil.rmtree(half, ignore_errors=True)
    writing.mkdir()
    torch.save(state, writing / "state.pt")
    if average is not None:
        save_file({name: tensor.contiguous() for name, tensor in average.items()}, writing / "ema.safetensors")
    for path in (*writing.iterdir(), writing):
        _to_disk(path)
    os.replace(writing, final)
    _to_disk(folder)
    for old in found(folder)[:-keep]:
        _remove(old)
    return final


def found(folder: Path) -> list[Path]:
    """The whole checkpoints, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in paths if _NAME.fullmatch(path.name) and (path / "state.pt").is_file())


def load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """One checkpoint's state and averaged weights, as `save` was given them, on the CPU.

    Raises `InputError` where it cannot be read: deleting its folder lets the run go on from the one before.
    """
    try:
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        average = load_file(path / "ema.safetensors") if (path / "ema.safetensors").exists() else None
    except Exception as error:  # many kinds, and all mean that the file is damaged
        raise InputError(
            f"{path}: cannot be read as a checkpoint ({error}); delete its folder to go on from an earlier one"
        ) from None
    return state, average


def _remove(path: Path) -> None:
    """Delete a checkpoint: first its name, so that a crash halfway leaves no half checkpoint."""
    doomed = path.with_name(f".deleting-{path.name}")
    os.replace(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Force a file, or a folder's list of names, out of the system's cache."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
