"""Boxes as files have them, with a corner and a size, made into ours."""

from __future__ import annotations

from diptych.data.formats.records import BadRow

Box = tuple[float, float, float, float]


def corners(
    x: float, y: float, width: float, height: float, picture: tuple[float | None, float | None], where: str
) -> Box:
    """(x0, y0, x1, y1) in pixels; `picture` is its width and height, as far as they are known.

    A box that overhangs the picture stays as it is. Raises `BadRow` for one without area or wholly outside.
    """
    across, down = picture
    if not (width > 0 and height > 0):
        raise BadRow("box without area", f"{where}: {width} x {height} pixels")
    if (across and x >= across) or (down and y >= down) or x + width <= 0 or y + height <= 0:
        size = f"{across} x {down}"
        raise BadRow("box outside the picture", f"{where}: {[x, y, width, height]} in a picture of {size} pixels")
    return x, y, x + width, y + height
