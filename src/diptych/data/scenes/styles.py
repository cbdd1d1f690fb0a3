"""From light to pixels: the tone curve of a photograph, flat colours with outlines, or coloured pencils."""

from __future__ import annotations

from functools import cache
from math import exp
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STEPS = 1024  # of the tone curve, on each unit of light
BRIGHTEST = 4

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709
INK = np.float32(0.02)  # linear light of outlines
PAPER = np.array([248, 245, 238], np.float32)
GRAPHITE = np.array([84, 84, 90], np.float32)
SHEET = 256  # side of the sheet of strokes, in pixels; it repeats


@cache
def tone_curve() -> Array:
    """sRGB of linear light in steps, uint8: straight up to 0.6, then bending to white."""
    values = []
    for i in range(STEPS * BRIGHTEST):
        light = i / STEPS
        light = light if light < 0.6 else 0.6 + 0.4 * (1 - exp(-(light - 0.6) / 0.4))
        values.append(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))
    return np.rint(values).astype(np.uint8)


def develop(light: Array) -> Array:
    """Linear light [3, N] as uint8 [N, 3]."""
    step = np.minimum(light * np.float32(STEPS), np.float32(STEPS * BRIGHTEST - 1)).astype(np.uint16)
    image = np.empty((light.shape[1], 3), np.uint8)
    for channel in range(3):
        image[:, channel] = tone_curve().take(step[channel])
    return image


def flatten(light: Array, albedo: Array, shiny: bool) -> Array:
    """Light on things in a few even tones; metal has a dark one and a white one, which rubber lacks."""
    tone = _luma(light) / np.maximum(_luma(albedo), np.float32(0.02))
    if not shiny:
        return np.asarray(albedo * np.where(tone < 0.5, np.float32(0.6), np.float32(0.92)))
    flat = albedo * np.where(tone < 0.3, np.float32(0.4), np.float32(0.92))
    return np.asarray(np.where(tone > 1.15, np.float32(0.5) + np.float32(0.45) * albedo, flat))


def pencil(image: Array, things: Array, lines: Array) -> Array:
    """A photograph drawn with pencils on paper: the ground in graphite, things in their colours.

    Args:
        image: uint8 [B, S, S, 3].
        things: where things are seen, booleans [B, S, S].
        lines: strength of outlines, 0..1, [B, S, S].
    """
    size = image.shape[1]
    strokes, crossed = (np.tile(s, (-(-size // SHEET),) * 2)[:size, :size] for s in _strokes())
    picture = image.astype(np.float32)
    dark = 1 - _luma(np.moveaxis(picture, -1, 0)) / 255
    hatched = np.where(dark > 0.62, np.maximum(strokes, crossed), strokes)
    color = np.where(things[..., None], picture + (picture - picture.mean(axis=-1, keepdims=True)) * 0.25, GRAPHITE)
    on_things = np.float32(0.62) + np.float32(0.3) * hatched - np.maximum(0.35 - dark, 0) * np.float32(1.2)
    on_ground = np.minimum(np.maximum(dark - np.float32(0.22), 0) * (np.float32(0.25) + hatched), 1)
    amount = np.where(things, on_things, on_ground)
    drawn = PAPER + (color - PAPER) * amount[..., None]
    drawn += (GRAPHITE * np.float32(0.6) - drawn) * (lines * (np.float32(0.6) + np.float32(0.3) * strokes))[..., None]
    return np.asarray(np.clip(drawn, 0, 255), np.uint8)


@cache
def _strokes() -> tuple[Array, Array]:
    """Two sheets of slanting strokes of uneven pressure, 0..1, float32 [SHEET, SHEET]."""
    random = np.random.RandomState(21)
    row, column = np.mgrid[:SHEET, :SHEET]
    sheets = []
    for slant in (1, -1):
        line = (row + slant * column) % SHEET
        pressure = random.random_sample(SHEET)  # of each line
        grain = random.random_sample((SHEET, SHEET))
        wave = np.where(line % 4 < 2, 1.0, 0.25)
        sheets.append((wave * (0.55 + 0.45 * pressure[line]) * (0.75 + 0.25 * grain)).astype(np.float32))
    return sheets[0], sheets[1]


def _luma(light: Array) -> Array:
    return np.asarray(LUMA[0] * light[0] + LUMA[1] * light[1] + LUMA[2] * light[2])
