"""Diptych builds, judges and uses vision-language models on a person's own images and text.

    import diptych

    model = diptych.load("pocket")
    hits = diptych.retrieve(model, ["a red car"], paths, k=5)

Everything is imported on first use, so that `import diptych` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.api import (
        answer,
        build_index,
        caption,
        classify,
        curate,
        detect,
        draw,
        embed_images,
        embed_texts,
        evaluate,
        export_dataset,
        fill,
        health,
        import_dataset,
        load,
        match,
        open_dataset,
        retrieve,
        segment,
    )
    from diptych.fitting import train
    from diptych.labelling import label
    from diptych.recipes import recipe
    from diptych.types import InputError, Sample

__version__ = "0.1.0"

_HOMES = {
    "answer": "diptych.api",
    "build_index": "diptych.api",
    "caption": "diptych.api",
    "classify": "diptych.api",
    "curate": "diptych.api",
    "detect": "diptych.api",
    "draw": "diptych.api",
    "embed_images": "diptych.api",
    "embed_texts": "diptych.api",
    "evaluate": "diptych.api",
    "export_dataset": "diptych.api",
    "fill": "diptych.api",
    "health": "diptych.api",
    "import_dataset": "diptych.api",
    "label": "diptych.labelling",
    "InputError": "diptych.types",
    "load": "diptych.api",
    "match": "diptych.api",
    "open_dataset": "diptych.api",
    "recipe": "diptych.recipes",
    "retrieve": "diptych.api",
    "Sample": "diptych.types",
    "segment": "diptych.api",
    "train": "diptych.fitting",
}
__all__ = [
    "InputError",
    "Sample",
    "answer",
    "build_index",
    "caption",
    "classify",
    "curate",
    "detect",
    "draw",
    "fill",
    "embed_images",
    "embed_texts",
    "evaluate",
    "export_dataset",
    "health",
    "import_dataset",
    "label",
    "load",
    "match",
    "open_dataset",
    "recipe",
    "retrieve",
    "segment",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diptych' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
