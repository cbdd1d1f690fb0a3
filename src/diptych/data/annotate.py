"""Drawing what a sample says about its picture: boxes with names, masks, and several pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.data import masks
from diptych.types import InputError, Object

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#808000", "#000075")
TINT = 0.2  # how much of a mask's colour lies over the picture
MOST_NAMES = 12  # in a picture with more things than this, names would hide it
GAP = 4


def annotate(image: Image.Image, objects: Sequence[Object], size: tuple[int, int]) -> Image.Image:
    """The picture at `size` with masks tinted and outlined, boxes, and names where there is room for them.

    Args:
        image: the whole picture; boxes and masks are in its pixels.
        objects: larger things are drawn first, so that small ones stay visible. A mask of another size than the
            picture is left out.
        size: (width, height) of what is returned.
    """
    drawn = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    scale = size[0] / image.width, size[1] / image.height
    order = sorted(range(len(objects)), key=lambda i: -_area(objects[i]))
    for i in order:
        drawn = _tint(drawn, objects[i], image.size, COLOURS[i % len(COLOURS)])
    draw = ImageDraw.Draw(drawn)
    for i in order:
        box = objects[i].box
        if box is not None:
            at = [box[0] * scale[0], box[1] * scale[1], box[2] * scale[0] - 1, box[3] * scale[1] - 1]
            draw.rectangle([*at[:2], max(at[0], at[2]), max(at[1], at[3])], outline=COLOURS[i % len(COLOURS)], width=2)
    if len(objects) <= MOST_NAMES:
        for i in order:
            _name(draw, objects[i], scale, size, COLOURS[i % len(COLOURS)])
    return drawn


def side_by_side(images: Sequence[Image.Image], colour: str = "#ffffff") -> Image.Image:
    """Pictures of one sample in a row, all as high as the highest."""
    height = max(image.height for image in images)
    row = Image.new("RGB", (sum(image.width for image in images) + GAP * (len(images) - 1), height), colour)
    x = 0
    for image in images:
        row.paste(image, (x, (height - image.height) // 2))
        x += image.width + GAP
    return row


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font of so many pixels that has Latin, Greek and Cyrillic letters (matplotlib's; Pillow's own has Latin)."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _area(thing: Object) -> float:
    return 0.0 if thing.box is None else (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])


def _tint(drawn: Image.Image, thing: Object, size: tuple[int, int], colour: str) -> Image.Image:
    if thing.mask is None or (thing.mask.width, thing.mask.height) != size:
        return drawn
    try:
        inside = masks.decode(thing.mask)
    except (InputError, ValueError):
        return drawn
    alpha = Image.fromarray(inside * np.uint8(255)).resize(drawn.size, Image.Resampling.BILINEAR)
    solid = np.asarray(alpha) > 127
    core = solid.copy()
    core[1:-1, 1:-1] = solid[1:-1, 1:-1] & solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    weight = Image.fromarray(np.where(solid & ~core, 255, core * 255 * TINT).astype(np.uint8))
    return Image.composite(Image.new("RGB", drawn.size, colour), drawn, weight)


def _name(
    draw: ImageDraw.ImageDraw, thing: Object, scale: tuple[float, float], size: tuple[int, int], colour: str
) -> None:
    if thing.box is None or not thing.name:
        return
    letters = font(15)
    left, top, right, bottom = letters.getbbox(thing.name)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(0.0, thing.box[0] * scale[0]), max(0.0, size[0] - width))
    y = thing.box[1] * scale[1] - height
    y = y if y >= 0 else min(thing.box[1] * scale[1], size[1] - height)
    draw.rectangle([x, y, x + width, y + height], fill=colour)
    draw.text((x + 3 - left, y + 3 - top), thing.name, "#ffffff", letters)
