"""A model as a folder: config.json, model.safetensors, its processor's files, a filled-in README.md. Never pickle."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych import models
from diptych.config import as_dict, parse, read_file
from diptych.models.card import render
from diptych.processing import PairProcessor
from diptych.types import InputError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
IN_RUN = "model"
"""The folder of the saved model in a run folder."""


def save(model: Any, to: Path, card: Mapping[str, Any] | str | None = None) -> Path:
    """Write `model` to the folder `to`; a write that is cut short leaves no half model where there was none.

    Raises `InputError` for a model of no family of ours: a checkpoint of another library, a chat server.
    """
    if not hasattr(model, "VERSION"):
        name = getattr(model, "address", "") or type(model).__name__
        raise InputError(
            f"model {name}: expected a model of a Diptych family to save; what stays elsewhere is loaded from there"
        )
    family = models.family_name(type(model))
    text = card if isinstance(card, str) else render(model, family, card or {})
    config = {"family": family, "version": model.VERSION, "config": as_dict(model.config)}
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(separate(model.state_dict()), partial / WEIGHTS, metadata={"format": "pt"})
    if model.processor is not None:
        model.processor.save(partial)
    (partial / CARD).write_text(text, encoding="utf-8")
    (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    move_into_place(partial, to)
    return to


def model_folder(path: Path) -> Path:
    """`path`, or the saved model's folder in it where `path` is a run folder."""
    inside = path / IN_RUN
    return inside if (inside / CONFIG).is_file() and not (path / WEIGHTS).exists() else path


def load(path: Path, *, trusted: bool = True) -> nn.Module:
    """The model in the folder `path`, in eval mode. Raises `InputError` naming the file and the field.

    Args:
        path: a model's folder, ours or Hugging Face's, or a run folder with a saved model in it.
        trusted: whether the folder may name a family from outside ("module:Class"), whose code would then run. A folder
            that came over the network may not.
    """
    path = model_folder(path)
    file = path / CONFIG
    if not file.is_file():
        raise InputError(f"{path}: expected a model's folder, but it has no {CONFIG}")
    raw = read_file(file)
    if "train" in raw and "version" not in raw:  # what the loop writes, see `training.run.RunFolder`
        raise InputError(f"{path}: expected a run that is finished; this one has not saved a model in {path / IN_RUN}")
    if "family" not in raw:
        own = models.ELSEWHERE.get(str(raw.get("model_type")))
        if own is not None:
            found: nn.Module = importlib.import_module(own).load(path)
            return found
        if "model_type" not in raw:
            raise InputError(f"{file}: expected 'family' (a Diptych model) or 'model_type' (a Hugging Face model)")
        from diptych.models import hf_folder

        return hf_folder.load(path)
    name = raw["family"]
    if not isinstance(name, str) or (name not in models.FAMILIES and not trusted):
        raise InputError(
            f"{file}: family: expected one of {', '.join(models.FAMILIES)}, got {name!r}; a family from outside "
            "runs its own code, so look at the folder and load it from disk"
        )
    family = models.family(name)
    config = _config(family, raw, file)
    reader = getattr(family, "Processor", PairProcessor)
    processor = reader.load(path) if (path / "preprocessor_config.json").is_file() else None
    model: nn.Module = family(config, processor)
    fill(model, read_tensors(path / WEIGHTS), path / WEIGHTS)
    return model.eval()


def settings(path: Path, name: str) -> Any:
    """The settings of the model of family `name` in a model's or a run's folder, its weights left unread.

    Raises `InputError` where there is no finished model of that family.
    """
    file = model_folder(path) / CONFIG
    if not file.is_file() or not (file.parent / WEIGHTS).exists():
        raise InputError(f"{path}: expected a model, or a finished run, with {CONFIG} and {WEIGHTS}")
    raw = read_file(file)
    if raw.get("family") != name:
        raise InputError(f"{file}: family: expected '{name}', got {raw.get('family')!r}")
    return _config(models.family(name), raw, file)


def _config(family: Any, raw: Mapping[str, Any], file: Path) -> Any:
    if raw.get("version") != family.VERSION:
        raise InputError(
            f"{file}: version: expected {family.VERSION} for family '{raw['family']}', got {raw.get('version')!r}"
        )
    if not isinstance(raw.get("config"), dict):
        raise InputError(f"{file}: config: expected an object with named fields, got {raw.get('config')!r}")
    return parse(family.Config, raw["config"], str(file))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises `InputError`."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from None


def read_state(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder: safetensors, whole or in shards, or a `pytorch_model.bin` whose code is not run."""
    single = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if single.is_file():
        return read_tensors(single)
    if index.is_file():
        shards = sorted(set(read_file(index).get("weight_map", {}).values()))
        return {name: value for shard in shards for name, value in read_tensors(folder / Path(shard).name).items()}
    legacy = folder / "pytorch_model.bin"
    if not legacy.is_file():
        raise InputError(f"{folder}: expected model.safetensors or pytorch_model.bin, found neither")
    try:
        state: dict[str, Tensor] = torch.load(legacy, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{legacy}: cannot be read as plain tensors: {str(error).splitlines()[0]}") from None
    return state


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Give `model` all its tensors. Raises `InputError` naming the first one that is missing, unknown or misshapen."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(f"{source}: does not fit its config: {(lines[1:] or lines)[0]}") from None


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors contiguous, on the CPU, and none sharing memory with another, as safetensors wants them."""
    seen: set[int] = set()
    result = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result


def move_into_place(partial: Path, to: Path) -> None:
    """Rename the finished folder; where one stands already its files are replaced one by one, the config last."""
    if not to.exists():
        partial.rename(to)
        return
    for file in sorted(partial.iterdir(), key=lambda file: file.name == CONFIG):
        os.replace(file, to / file.name)
    partial.rmdir()
