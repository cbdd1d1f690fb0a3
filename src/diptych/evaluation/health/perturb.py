"""Damaged pictures at three grades, in the manner of ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261).

Grades are measured against the picture's side, so that a thumbnail and a photograph suffer alike.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Picture = NDArray[np.uint8]

GRADES = 3


def blur(picture: Picture, grade: int, rng: np.random.Generator) -> Picture:
    """Gaussian; sigma is 1, 2 or 4 % of the shorter side."""
    sigma = (0.01, 0.02, 0.04)[grade] * min(picture.shape[:2])
    return np.asarray(gaussian_filter(picture, (sigma, sigma, 0)), np.uint8)


def noise(picture: Picture, grade: int, rng: np.random.Generator) -> Picture:
    """Gaussian, independent per pixel and colour; standard deviation 15, 30 or 60 of 255."""
    made = picture + rng.normal(0, (15, 30, 60)[grade], picture.shape)
    return np.asarray(np.clip(made, 0, 255), np.uint8)


def jpeg(picture: Picture, grade: int, rng: np.random.Generator) -> Picture:
    """Quality 40, 20 or 8."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=(40, 20, 8)[grade])
    return np.asarray(Image.open(buffer).convert("RGB"))


def occlusion(picture: Picture, grade: int, rng: np.random.Generator) -> Picture:
    """A gray square somewhere over 4, 9 or 16 % of the picture."""
    height, width = picture.shape[:2]
    share = (0.2, 0.3, 0.4)[grade]
    top, left = (int(rng.random() * (1 - share) * side) for side in (height, width))
    made = picture.copy()
    made[top : top + int(share * height), left : left + int(share * width)] = 128
    return made


DAMAGES: dict[str, Callable[[Picture, int, np.random.Generator], Picture]] = {
    "blur": blur,
    "noise": noise,
    "JPEG": jpeg,
    "occlusion": occlusion,
}


def encoded(picture: Any) -> bytes:
    """A picture as bytes, for the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
