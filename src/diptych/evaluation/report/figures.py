"""Curves as inline SVG that takes its colours from the page, so that they fit its light and its dark dress."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.types import InputError

# matplotlib wants real colours; each of these stands for a variable of the page's style sheet.
_INK, _MUTED, _RULE = "#010101", "#020202", "#030303"
_SERIES = [f"#04040{i}" for i in range(8)]
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule"} | {c: f"--series-{i}" for i, c in enumerate(_SERIES)}

CHANCE = "chance/"  # prefix of a loss's chance level in `metrics.jsonl`


@dataclass(frozen=True)
class Curve:
    """The loss of one run: step, value, and the loss of a model that has learnt nothing, where theory gives it."""

    steps: list[int]
    losses: list[float]
    chance: float | None


def read_curve(path: Path) -> Curve:
    """The lines of a run's `metrics.jsonl` that have a loss with a chance level, or else the total loss.

    Raises `InputError` if the file cannot be read or holds no loss.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected one JSON object a line: {error}") from None
    lines = [line for line in lines if isinstance(line, dict) and "step" in line]
    lines = [line for line in lines if line.get("kind", "train") == "train"]
    with_chance = [name.removeprefix(CHANCE) for line in lines for name in line if name.startswith(CHANCE)]
    name = with_chance[0] if with_chance else "loss"
    points = [line for line in lines if isinstance(line.get(name), int | float)]
    if not points:
        raise InputError(f"{path}: expected lines with 'step' and '{name}', found none")
    return Curve(
        [int(line["step"]) for line in points], [float(line[name]) for line in points], points[-1].get(CHANCE + name)
    )


def loss_svg(curves: Mapping[str, Curve], colours: Sequence[int]) -> str:
    """Loss over steps, one line a run in its series colour; the chance level dashed and named."""
    from matplotlib import rc_context  # half a second to import, so only where a figure is drawn
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "diptych", "font.family": "sans-serif", "font.size": 11}
    with rc_context(settings):
        figure = Figure(figsize=(9.2, 3.5), layout="constrained")
        axes = figure.subplots()
        for (name, curve), colour in zip(curves.items(), colours):
            shown = _SERIES[colour % len(_SERIES)]
            axes.plot(curve.steps, curve.losses, color=shown, alpha=0.25, linewidth=1)
            axes.plot(curve.steps, _smooth(curve.losses), color=shown, linewidth=2, label=name)
        right = max(curve.steps[-1] for curve in curves.values())
        for level in sorted({c.chance for c in curves.values() if c.chance is not None}):
            batch = round(math.exp(level))
            axes.axhline(level, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
            text = f"chance: ln {batch} = {level:.2f}" if batch and abs(math.log(batch) - level) < 1e-3 else "chance"
            axes.annotate(text, (right, level), (0, 4), textcoords="offset points", ha="right", color=_MUTED)
        axes.set_xlabel("step", color=_MUTED)
        axes.set_ylabel("loss", color=_MUTED)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.grid(axis="y", color=_RULE, linewidth=1)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_MUTED, length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_RULE)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_the_page(buffer.getvalue())


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over about a twentieth of the run, so that the trend shows through the noise."""
    width = max(1, len(values) // 20)
    padded = np.concatenate([np.full(width - 1, np.nan), np.asarray(values, dtype=np.float64)])
    return [float(np.nanmean(padded[i : i + width])) for i in range(len(values))]


def _for_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # its style would reach out of the figure
    svg = re.sub(r' font-family: [^;"]*;', "", svg)  # the page's own
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # "axes_1": the same in every figure of the page
    # The page's figure says in words what the curves show.
    return re.sub(r'<svg\b([^>]*?) width="[^"]*" height="[^"]*"', r'<svg aria-hidden="true"\1', svg, count=1)
