"""Binary masks in COCO's run-length encoding, by hotcoco, which gives what pycocotools gives, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hotcoco import mask as coco

from diptych.types import InputError, Mask

MAX_PIXELS = 1 << 30  # far more than any picture that is read; runs are counted in 32 bits

Array = np.ndarray[Any, np.dtype[np.bool_]]


def encode(pixels: Array) -> Mask:
    """The mask of a boolean H x W array."""
    run = coco.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return Mask(pixels.shape[0], pixels.shape[1], run["counts"])


def encode_labels(labels: np.ndarray[Any, Any], count: int) -> list[Mask]:
    """The masks of the values 0 to `count` - 1 in an integer H x W array."""
    if not count:
        return []
    pixels = (labels.T[None] == np.arange(count, dtype=labels.dtype)[:, None, None]).view(np.uint8).transpose(2, 1, 0)
    height, width = labels.shape
    return [Mask(height, width, run["counts"]) for run in coco.encode(pixels)]


def decode(mask: Mask) -> Array:
    """The mask as a boolean H x W array."""
    found: Array = coco.decode(to_coco(mask)).astype(bool)
    return found


def area(mask: Mask) -> int:
    """Pixels inside."""
    return int(coco.area(to_coco(mask)))


def box(mask: Mask) -> tuple[float, float, float, float]:
    """The smallest box (x0, y0, x1, y1) around the mask; all zero if it is empty."""
    x, y, width, height = (float(v) for v in coco.toBbox(to_coco(mask)))
    return x, y, x + width, y + height


def to_coco(mask: Mask) -> dict[str, Any]:
    """The mask as pycocotools and hotcoco take it."""
    return {"size": [mask.height, mask.width], "counts": mask.counts}


def from_coco(segmentation: Any, height: int, width: int) -> Mask:
    """A mask from what COCO files hold: a list of polygons, or runs, compressed (text) or not (a list).

    Raises:
        InputError: it is none of these, or of another size than the picture.
    """
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise InputError(f"mask: expected a picture of at most {MAX_PIXELS:,} pixels")
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise InputError(f"mask: expected the picture's size [{height}, {width}], got {size}")
        if isinstance(counts, list):
            if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != height * width:
                raise InputError("mask: expected runs that fill the picture")
            runs = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            return Mask(height, width, bytes(runs["counts"]))
        if isinstance(counts, str | bytes):
            return _compressed(
                counts if isinstance(counts, bytes) else counts.encode("utf-8", "replace"), height, width
            )
    elif isinstance(segmentation, list) and segmentation:
        rings = [ring for ring in segmentation if isinstance(ring, list)]
        flat = [v for ring in rings for v in ring]
        numbers = all(isinstance(v, int | float) and abs(v) < 1e6 for v in flat)
        if len(rings) == len(segmentation) and numbers and all(len(r) >= 6 and len(r) % 2 == 0 for r in rings):
            merged = coco.merge(coco.frPyObjects([[float(v) for v in r] for r in rings], height, width))
            return Mask(height, width, bytes(merged["counts"]))
    raise InputError("mask: expected polygons of three points or more, or runs with size and counts")


def _compressed(counts: bytes, height: int, width: int) -> Mask:
    """Runs as text, checked: a text that was cut short would otherwise read as a smaller mask."""
    mask = Mask(height, width, counts)
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        byte -= 48
        value |= (byte & 31) << shift
        shift += 5
        if not byte & 32:  # the last five bits of a number; its highest bit is the sign
            value -= (1 << shift) * (byte >> 4 & 1)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))  # from the third on: the change over two runs
            value = shift = 0
    try:
        if shift or sum(runs) != height * width or min(runs, default=0) < 0:
            raise ValueError("expected runs that fill the picture")
        area(mask)  # hotcoco's own checks
    except ValueError as error:
        raise InputError(f"mask: expected runs that can be read: {error}") from None
    return mask
