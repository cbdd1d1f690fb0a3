"""The model card: README.md of a saved model, filled in from what is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from diptych.config import as_dict
from diptych.types import Estimate

_KNOWN = ("data", "license", "command", "metrics", "notes")


def render(model: nn.Module, family: str, facts: Mapping[str, Any]) -> str:
    """README.md as text.

    Args:
        facts: any of `data` (what it was trained on), `license`, `command` (that trained it), `metrics` (name to a
            number, `Estimate`, or mapping with value, low, high, n, chance), `notes`; further entries become a list of
            facts. What is missing is said to be missing.
    """
    license = facts.get("license")
    head = ["---", "library_name: diptych", f"tags: [diptych, {family}]"]
    head += [f"license: {json.dumps(str(license))}"] if license else []
    whole = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    lines = [
        *head,
        "---",
        "",
        f"# A `{family}` model of Diptych",
        "",
        f"- Parameters: {whole:,}, of which {trained:,} train",
        f"- Data: {facts.get('data') or 'not recorded'}",
        f"- Licence: {license or 'not recorded; it follows from the data and the pretrained parts'}",
        *(f"- {name}: {value}" for name, value in facts.items() if name not in _KNOWN),
        "",
        "## Use",
        "",
        "```python",
        "import diptych",
        "",
        'model = diptych.load("this/folder")',
        'diptych.embed_texts(model, ["a red car"])',
        "```",
        "",
        "## Results",
        "",
        *_results(facts.get("metrics") or {}),
        "",
        "## Trained with",
        "",
        *(["```", str(facts["command"]), "```"] if facts.get("command") else ["Not recorded."]),
    ]
    lines += ["", "## Notes", "", str(facts["notes"])] if facts.get("notes") else []
    described: Any = model
    config = json.dumps(as_dict(described.config), indent=2)
    lines += ["", "## Configuration", "", "```json", config, "```", ""]
    return "\n".join(lines)


def _results(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return ["Not measured."]
    rows = ["| metric | value | 95 % interval | n | chance |", "|---|---|---|---|---|"]
    return rows + [f"| `{name}` | {' | '.join(_cells(value))} |" for name, value in metrics.items()]


def _cells(value: Any) -> list[str]:
    if isinstance(value, Estimate):
        value = value._asdict()
    if not isinstance(value, Mapping):
        return [_number(value), "", "", ""]
    interval = f"{_number(value['low'])} to {_number(value['high'])}" if "low" in value and "high" in value else ""
    return [_number(value.get("value")), interval, _number(value.get("n")), _number(value.get("chance"))]


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
