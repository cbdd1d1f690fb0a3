"""A caption's words, each with its map over the picture, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.evaluation.attribution.maps import WordMap, enlarged
from diptych.images import decode
from diptych.types import InputError

COLUMNS, SIDE = 8, 1.5  # most words in a line; inches


def draw_words(picture: Any, maps: Sequence[WordMap], to: str | Path) -> Path:
    """Draw the picture and, for each word, where it came from, with the word's probability. Returns the path.

    Colours of a map go from nothing to its own highest value, so that maps of two words cannot be compared by them.

    Args:
        picture: as `diptych.images.decode` takes it.
        to: a name that ends in .png.

    Raises `InputError` for another suffix or no words, and `BadImage`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    to = Path(to)
    if to.suffix != ".png" or not maps:
        raise InputError(f"{to}: expected a name that ends in .png, and at least one word")
    image = np.asarray(decode(picture))
    lines = -(-(len(maps) + 1) // COLUMNS)
    columns = -(-(len(maps) + 1) // lines)
    figure = Figure(figsize=(SIDE * columns, (SIDE + 0.4) * lines), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image)
    panels[0].set_title("picture", fontsize=9, color="#6b7585")
    for panel, one in zip(panels[1:], maps):
        heat = enlarged(one.map, *image.shape[:2])
        panel.imshow(gray)
        panel.imshow(heat, cmap="inferno", alpha=np.clip(heat / heat.max(), 0, 1) * 0.85, vmin=0, vmax=heat.max())
        panel.set_title(f"{one.word}  {100 * np.exp(min(one.log_prob, 0)):.0f} %", fontsize=9)
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to)
    return to
