"""A training run's settings: the family's config, the loop's and the loader's, from preset, file and command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diptych import models
from diptych.config import as_dict, override, parse, strict
from diptych.models import folder
from diptych.training.config import TrainConfig
from diptych.types import InputError

SECTIONS = ("model", "training", "loader")


@strict
@dataclass(frozen=True)
class LoaderConfig:
    """How data reaches the loop.

    Attributes:
        batch_size: samples in a batch, over all processes.
        held_out: share of the data, in [0, 1), that is kept for the evaluation at the end.
        split_by: field whose equal values stay on one side of that split, so that near-copies do not leak.
        texts: what a model reads and writes: "captions"; "questions", whose answers it is to give; "both", a row of the
            one or the other; "dialogues", a caption and questions in each row; or "documents": conversations and
            running text with several pictures.
        turns: questions of a picture that are asked in one row, one after the other; the end token follows each answer.
        wrong: texts known not to fit (`negatives`) that are read beside each caption, to be told from it; at most.
        unlabelled: read questions that nobody answered too, for a teacher (`training.teacher`) to answer.
        augment: change pictures at random (crops).
        threads: that decode; one a core by default.
        seed: of the split, the order and the augmentation.
    """

    batch_size: int = 128
    held_out: float = 0.1
    split_by: str = "creator"
    texts: Literal["captions", "questions", "both", "dialogues", "documents"] = "captions"
    turns: int = 1
    wrong: int = 0
    unlabelled: bool = False
    augment: bool = False
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A family with all its settings resolved.

    Attributes:
        start: folder of the trained model that it goes on from; None: fresh weights.
    """

    family: str
    model: Any
    training: TrainConfig
    loader: LoaderConfig
    start: str | None = None


def recipe(
    family: str,
    *,
    preset: str | None = None,
    start: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Mapping[str, str] | None = None,
    source: str = "config",
) -> Recipe:
    """Resolve a run's settings: the preset or the start first, then `settings`, then `overrides`.

    Args:
        family: a name of `models.FAMILIES` or "module:Class".
        preset: one of the family's; its first if None.
        start: folder of a trained model, or of its run, that is trained further. It has its own model settings.
        settings: plain data by section, e.g. `{"training": {"epochs": 5}}`.
        overrides: texts by dotted name, e.g. `{"model.vision.width": "192"}`.
        source: what `settings` are called in an error.

    Raises:
        InputError: an unknown section, preset or field, or a value of the wrong type; model settings or a preset where
            a start has its own; no model of this family there.
    """
    cls = models.family(family)
    names = list(cls.PRESETS)
    if preset is not None and preset not in cls.PRESETS:
        raise InputError(f"{family}: unknown preset '{preset}'; it has {', '.join(names)}")
    own = [name for name in (*(settings or {}), *(overrides or {})) if name.partition(".")[0] == "model"]
    if preset is not None:
        own.insert(0, "preset")
    if start is not None and own:
        raise InputError(f"{family}: {own[0]}: a model that is trained further has its own settings")
    configs: dict[str, Any] = {
        "model": cls.PRESETS[preset or names[0]] if start is None else folder.settings(Path(start), family),
        "training": TrainConfig(epochs=10),
        "loader": LoaderConfig(),
    }
    for section, values in (settings or {}).items():
        _known(section, source)
        base = as_dict(configs[section])
        if section == "training" and {"epochs", "steps", "samples", "minutes"} & values.keys():
            base["epochs"] = None  # the default length gives way to the one that is asked for
        configs[section] = parse(type(configs[section]), _merged(base, values), f"{source}: {section}")
    for section in SECTIONS:
        asked = {k.removeprefix(f"{section}."): v for k, v in (overrides or {}).items() if k.startswith(f"{section}.")}
        if section == "training" and {"steps", "samples", "minutes"} & asked.keys():
            asked.setdefault("epochs", "null")
        if asked:
            configs[section] = override(configs[section], asked, f"command line: {section}")
    for name in overrides or {}:
        _known(name.partition(".")[0], "command line")
    return Recipe(
        family, configs["model"], configs["training"], configs["loader"], None if start is None else str(start)
    )


def _known(section: str, source: str) -> None:
    if section not in SECTIONS:
        close = difflib.get_close_matches(section, SECTIONS, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise InputError(f"{source}: unknown section '{section}'{hint}; expected {', '.join(SECTIONS)}")


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over `base`, dict by dict; another `kind` of tower replaces the old one whole."""
    result = dict(base)
    for name, value in values.items():
        old = result.get(name)
        same = (
            isinstance(old, dict)
            and isinstance(value, Mapping)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        result[name] = _merged(old, value) if same and old is not None else value
    return result
