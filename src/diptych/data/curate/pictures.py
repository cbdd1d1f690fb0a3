"""Filters by what a picture is: readable, large enough, not too large, not a banner.

A row without a picture that can be read passes all but the first of these; one of several passes if each of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import counts
from diptych.data.curate.steps import Array, Decision, Models, Step, Tools
from diptych.images import BadImage, decode, open_header


def opened(pictures: Any) -> Iterator[Image.Image | None]:
    """The pictures of an Arrow column of encoded bytes, decoded; None where there is none that can be read."""
    for entry in pictures:
        try:
            data = entry.as_py()
            yield None if data is None else decode(data)
        except BadImage:
            yield None


def of_rows(batch: Any) -> tuple[Array, list[bytes | None]]:
    """All pictures of the rows that a step measures, encoded, None where one cannot be had: (their rows, they)."""
    pictures = [[first, *more] for first, more in zip(batch["picture"].to_pylist(), batch["more"].to_pylist())]
    return np.repeat(np.arange(len(pictures)), list(map(len, pictures))), [one for row in pictures for one in row]


@strict
@dataclass(frozen=True)
class Readable(Step):
    """Drop rows without a picture, or with one that cannot be decoded to its end."""

    do: Literal["readable"] = "readable"

    sees_pictures: ClassVar[bool] = True

    def measures(self, models: Models) -> str:
        """Whether all of a row's can be decoded."""
        return "readable 2"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """A boolean a row."""
        good = [image is not None for image in opened(batch["picture"])]
        others = [all(image is not None for image in opened(more)) for more in batch["more"]]
        return {"readable": pa.array([first and rest for first, rest in zip(good, others)])}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        return Decision(
            "Rows without a picture, or with one that cannot be read, were dropped.",
            keep=rows["readable"].to_numpy(),
            say=lambda row: ("no picture that can be read", ""),
        )


class _BySize(Step):
    """What is decided by width and height, which the head of the file tells."""

    sees_pictures: ClassVar[bool] = True

    def measures(self, models: Models) -> str:
        """Width and height."""
        return "picture size 2"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """Lists of width and height in pixels, as they are seen, of the row's pictures that can be read."""
        of_row, pictures = of_rows(batch)
        sizes: list[list[tuple[int, int]]] = [[] for _ in range(len(batch))]
        for row, data in zip(of_row.tolist(), pictures):
            if (size := _size(data)) is not None:
                sizes[row].append(size)
        return {
            name: pa.array([[size[axis] for size in row] for row in sizes], pa.list_(pa.int32()))
            for axis, name in enumerate(("width", "height"))
        }

    def _judged(self, rows: Any, sentence: str, good: Callable[[Array, Array], Array]) -> Decision:
        """Drop rows with a picture whose width and height (float64, of all pictures) are not good."""
        width, height = (pc.list_flatten(rows[name]).to_numpy().astype(np.float64) for name in ("width", "height"))
        had, bad = counts(rows["width"]), ~good(width, height)
        starts = np.concatenate([[0], np.cumsum(had)])

        def say(row: int) -> tuple[str, str]:
            places = starts[row] + np.flatnonzero(bad[starts[row] : starts[row + 1]])
            return " | ".join(f"{width[i]:.0f} x {height[i]:.0f} pixels" for i in places), ""

        return Decision(
            sentence, keep=np.bincount(np.repeat(np.arange(len(rows)), had)[bad], minlength=len(rows)) == 0, say=say
        )


@strict
@dataclass(frozen=True)
class PictureSize(_BySize):
    """Drop pictures with a short side below `least_side` or more than `most_pixels` pixels.

    Attributes:
        least_side: of the shorter side, in pixels.
        most_pixels: width times height; None for no limit.
    """

    do: Literal["picture-size"] = "picture-size"
    least_side: Annotated[int, Field(ge=1)] = 64
    most_pixels: Annotated[int, Field(ge=1)] | None = None

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        most = np.inf if self.most_pixels is None else self.most_pixels
        more = "" if self.most_pixels is None else f" or more than {self.most_pixels:,} pixels"
        return self._judged(
            rows,
            f"Pictures with a side below {self.least_side} pixels{more} were dropped.",
            lambda width, height: (np.minimum(width, height) >= self.least_side) & (width * height <= most),
        )


@strict
@dataclass(frozen=True)
class Aspect(_BySize):
    """Drop banners and strips: pictures whose longer side is more than `most` times the shorter.

    Attributes:
        most: longer side over shorter side.
    """

    do: Literal["aspect"] = "aspect"
    most: Annotated[float, Field(ge=1)] = 3.0

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        return self._judged(
            rows,
            f"Pictures more than {self.most:g} times as long as they are wide, or the other way round, were dropped.",
            lambda width, height: np.maximum(width, height) <= np.minimum(width, height) * self.most,
        )


def _size(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    try:
        with open_header(data) as image:
            width, height = image.size
            turned = Image.Image.getexif(image).get(0x0112, 1) >= 5  # a PNG's own would decode the whole picture
    except Exception:  # on hostile bytes Pillow raises nearly anything
        return None
    return (height, width) if turned else (width, height)
