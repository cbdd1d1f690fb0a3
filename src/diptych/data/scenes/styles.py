"""From light to pixels: the tone curve of a photograph, flat colours with outlines, or coloured pencil."""

from __future__ import annotations

from functools import cache
from math import exp
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STEPS = 1024  # of the tone curve, on each unit of light
BRIGHTEST = 4


@cache
def tone_curve() -> Array:
    """sRGB of linear light in steps, uint8: straight up to 0.6, then bending to white."""
    values = []
    for i in range(STEPS * BRIGHTEST):
        light = i / STEPS
        light = light if light < 0.6 else 0.6 + 0.4 * (1 - exp(-(light - 0.6) / 0.4))
        values.append(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))
    return np.rint(values).astype(np.uint8)


def photo(light: Array) -> Array:
    """Linear light [3, N] as uint8 [N, 3]."""
    step = np.minimum(light * np.float32(STEPS), np.float32(STEPS * BRIGHTEST - 1)).astype(np.uint16)
    image = np.empty((light.shape[1], 3), np.uint8)
    for channel in range(3):
        image[:, channel] = tone_curve().take(step[channel])
    return image
