"""Datasets that are read where they lie, or made as they are read, and need no import."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from diptych.data.store import Dataset

LIVE: dict[str, str] = {
    "wds": "diptych.data.tar_store:open_shards",
    "mix": "diptych.data.mixture:open_mixture",
    "scenes": "diptych.data.scenes.store:open_scenes",
}
"""Kind of address -> "module:function", called with what follows the kind and with the options."""


def open_live(kind: str, rest: str, options: Mapping[str, str]) -> Dataset:
    """The dataset at "kind:rest?options". Raises `InputError` where its opener does."""
    module, function = LIVE[kind].split(":")
    dataset: Dataset = getattr(import_module(module), function)(rest, options)
    return dataset
