"""Checkpoints of other libraries under our names, and back: a table of names for each part of a model."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.models.folder import move_into_place, separate
from diptych.types import InputError

_LAYER = re.compile(r"(.*)layers\.(\d+)\.(.*)")

# of a layer of ours in transformers' words, for models that normalise before a branch (ViT) and after it (BERT)
VIT_LAYER = {
    "attention.q_proj.": "attention.attention.query.",
    "attention.k_proj.": "attention.attention.key.",
    "attention.v_proj.": "attention.attention.value.",
    "attention.out_proj.": "attention.output.dense.",
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
BERT_LAYER = {
    "attention.q_proj.": "attention.self.query.",
    "attention.k_proj.": "attention.self.key.",
    "attention.v_proj.": "attention.self.value.",
    "attention.out_proj.": "attention.output.dense.",
    "norm1.": "attention.output.LayerNorm.",
    "norm2.": "output.LayerNorm.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}


def renamed(name: str, table: Mapping[str, str], layer: Mapping[str, str]) -> str:
    """A tensor's name in another library.

    Args:
        table: our beginnings of names, each with its dot, or whole names -> theirs. "transformer." stands for what
            comes before "layers.0." of ours, and "layer.0." of theirs.
        layer: the same within a layer.

    Raises `KeyError` for a name that no entry fits.
    """
    inside = _LAYER.fullmatch(name)
    if inside:
        before, number, rest = inside.groups()
        return f"{table[before]}layer.{number}.{renamed(rest, layer, {})}"
    for ours, theirs in table.items():
        if name == ours or (ours.endswith(".") and name.startswith(ours)):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def write_folder(
    to: str | Path, raw: Mapping[str, Any], state: Mapping[str, Tensor], write_processor: Callable[[Path], None]
) -> Path:
    """Write config.json and model.safetensors, and what `write_processor` writes; nothing half done stays."""
    to = Path(to)
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(separate(state), partial / "model.safetensors", metadata={"format": "pt"})
    write_processor(partial)
    (partial / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    move_into_place(partial, to)
    return to


def activation(raw: Mapping[str, Any], folder: Path) -> None:
    """Raises `InputError` where the MLPs have another activation than GELU, which all of these models have."""
    if raw.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"{folder / 'config.json'}: hidden_act: expected 'gelu', got {raw['hidden_act']!r}")
