"""Filters by what a picture is: readable, large enough, not too large, not a banner. A row without picture passes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.steps import Decision, Models, Step, Tools
from diptych.images import BadImage, decode


def opened(pictures: Any) -> Iterator[Image.Image | None]:
    """The pictures of an Arrow column of encoded bytes, decoded; None where there is none that can be read."""
    for entry in pictures:
        try:
            data = entry.as_py()
            yield None if data is None else decode(data)
        except BadImage:
            yield None


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
        return "picture size 1"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """Width and height in pixels as the picture is seen; null where there is none that can be read."""
        sizes = [_size(entry.as_py()) for entry in batch["picture"]]
        return {
            name: pa.array([None if size is None else size[axis] for size in sizes], pa.int32())
            for axis, name in enumerate(("width", "height"))
        }


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
        width, height = (pc.cast(rows[name], pa.int64()) for name in ("width", "height"))
        good = pc.greater_equal(pc.min_element_wise(width, height, skip_nulls=False), self.least_side)
        sentence = f"Pictures with a side below {self.least_side} pixels"
        if self.most_pixels is not None:
            good = pc.and_(good, pc.less_equal(pc.multiply(width, height), self.most_pixels))
            sentence += f" or more than {self.most_pixels:,} pixels"
        return Decision(
            f"{sentence} were dropped.",
            keep=np.asarray(pc.fill_null(good, True)),
            say=lambda row: (f"{width[row]} x {height[row]} pixels", ""),
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
        width, height = (pc.cast(rows[name], pa.float64()) for name in ("width", "height"))
        longer = pc.max_element_wise(width, height, skip_nulls=False)
        good = pc.less_equal(longer, pc.multiply(pc.min_element_wise(width, height, skip_nulls=False), self.most))
        return Decision(
            f"Pictures more than {self.most:g} times as long as they are wide, or the other way round, were dropped.",
            keep=np.asarray(pc.fill_null(good, True)),
            say=lambda row: (f"{rows['width'][row]} x {rows['height'][row]} pixels", ""),
        )


def _size(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = Image.Image.getexif(image).get(0x0112, 1) >= 5  # a PNG's own would decode the whole picture
    except Exception:  # on hostile bytes Pillow raises nearly anything
        return None
    return (height, width) if turned else (width, height)
