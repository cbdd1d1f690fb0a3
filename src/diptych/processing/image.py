"""Pictures to uint8 squares of a model's size. Scaling to floats happens in the model, on its device (`Normalize`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.config import read_file, strict
from diptych.images import decode, decode_plain_jpeg, read_bytes
from diptych.types import InputError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
_RESAMPLING = {name: Image.Resampling[name.upper()] for name in Interpolation.__args__}  # type: ignore[attr-defined]
_LONGEST_STRIP = 4  # a picture longer than this many times its short side is cut to it before it is enlarged


@strict
@dataclass(frozen=True)
class ImageConfig:
    """How a picture becomes a square, or a rectangle where its shape is kept.

    Attributes:
        size: side of the square in pixels; with "keep" of the short side.
        resize: "crop" scales the short side and cuts the middle; "squash" ignores the aspect ratio; "pad" scales the
            long side and fills the rest with `mean`, which is 0 after normalisation; "keep" scales the short side, or
            less where the long one would be beyond `long_side`, and rounds both down to a multiple of `multiple`.
        short_side: for "crop", what the short side is scaled to; None means `size`, so that it is kept whole.
        mean, std: of each channel, in [0, 1]; the model subtracts and divides.
        long_side, multiple: for "keep".
    """

    size: int = 224
    resize: Literal["crop", "squash", "pad", "keep"] = "crop"
    interpolation: Interpolation = "bicubic"
    short_side: int | None = None
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    long_side: int = 640
    multiple: int = 32

    def __post_init__(self) -> None:
        if self.size < 1 or (self.short_side is not None and self.short_side < self.size):
            raise InputError(f"image: expected 1 <= size <= short_side, got {self.size} and {self.short_side}")
        if self.resize == "keep" and not 1 <= self.multiple <= self.size <= self.long_side:
            raise InputError(
                f"image: expected multiple <= size <= long_side, got {self.multiple}, {self.size}, {self.long_side}"
            )


class ImageProcessor:
    """Decodes and resizes pictures as `config` says; safe to call from many threads."""

    def __init__(self, config: ImageConfig | None = None) -> None:
        self.config = config or ImageConfig()

    def __call__(self, source: Any) -> NDArray[np.uint8]:
        """One picture (encoded bytes, a path, a PIL image or an array) as uint8 (H, W, 3), H = W = `config.size`.

        With "keep" H and W are what the picture's shape makes of it.

        Raises `diptych.images.BadImage`, whose `reason` can be counted.
        """
        shortest = self.config.short_side or self.config.size
        if isinstance(source, str | Path):
            source = read_bytes(Path(source))
        if isinstance(source, bytes):
            pixels = decode_plain_jpeg(source)
            if pixels is not None and self._only_cut(pixels, shortest):
                top, left = ((side - self.config.size) // 2 for side in pixels.shape[:2])
                return pixels[top : top + self.config.size, left : left + self.config.size]
            picture = decode(source, target=shortest) if pixels is None else Image.fromarray(pixels)
        else:
            picture = decode(source, target=shortest)
        return np.asarray(self._square(picture, shortest), dtype=np.uint8)

    def shown(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (x0, y0, x1, y1) of a picture of these sides, in its pixels, that becomes the model's picture.

        With "pad" it reaches beyond the picture. Half a pixel of the model's may be lost in rounding.
        """
        if self.config.resize in ("squash", "keep"):
            return 0.0, 0.0, float(width), float(height)
        if self.config.resize == "pad":
            side: float = max(width, height)
        else:
            side = min(width, height) * self.config.size / (self.config.short_side or self.config.size)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def _only_cut(self, pixels: NDArray[np.uint8], shortest: int) -> bool:
        """Whether the middle of the picture is the square that `_square` would make of it."""
        height, width = pixels.shape[:2]
        cut = min(height, width) == shortest and max(height, width) <= _LONGEST_STRIP * shortest
        if self.config.resize == "keep":
            return False
        return cut and (self.config.resize == "crop" or height == width == self.config.size)

    def _square(self, picture: Image.Image, shortest: int) -> Image.Image:
        size, how = self.config.size, _RESAMPLING[self.config.interpolation]
        if self.config.resize == "keep":
            scale = min(size / min(picture.size), self.config.long_side / max(picture.size))
            sides = (int(side * scale + 0.5) // self.config.multiple * self.config.multiple for side in picture.size)
            width, height = (max(self.config.multiple, side) for side in sides)
            return picture.resize((width, height), how)
        if picture.size == (size, size) and shortest == size:
            return picture
        if self.config.resize == "squash":
            return picture.resize((size, size), how)
        if self.config.resize == "pad":
            scale = size / max(picture.size)
            width, height = (max(1, round(side * scale)) for side in picture.size)
            square = Image.new("RGB", (size, size), tuple(round(255 * channel) for channel in self.config.mean))
            square.paste(picture.resize((width, height), how), ((size - width) // 2, (size - height) // 2))
            return square
        # a 1 x 10,000 strip would otherwise be enlarged to gigabytes of which the middle is kept
        picture = _centre(picture, *(min(side, _LONGEST_STRIP * min(picture.size)) for side in picture.size))
        scale = shortest / min(picture.size)
        width, height = (shortest if side == min(picture.size) else int(side * scale) for side in picture.size)
        return _centre(picture.resize((width, height), how), size, size)

    def fingerprint(self) -> str:
        """A short hash of everything that changes the pixels a model sees."""
        return hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode()).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json` in Hugging Face's words."""
        text = json.dumps(to_hf(self.config), indent=2) + "\n"
        (Path(folder) / "preprocessor_config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> ImageProcessor:
        """Read `preprocessor_config.json`, ours or Hugging Face's. Raises `InputError`."""
        path = Path(folder) / "preprocessor_config.json"
        return cls(from_hf(read_file(path), str(path)))


def _centre(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


# ---------------------------------------------------------------- Hugging Face's words for the same


def to_hf(config: ImageConfig) -> dict[str, Any]:
    """`preprocessor_config.json` of a `CLIPImageProcessor` that does the same ("pad" is known to us only)."""
    crop = config.resize == "crop"
    square = {"height": config.size, "width": config.size}
    if config.resize == "keep":  # ViLT's; its long side is a rule there (see `from_hf`)
        sides = {"shortest_edge": config.size, "longest_edge": config.long_side}
        kept = {"image_processor_type": "ViltImageProcessor", "size": sides, "size_divisor": config.multiple}
    else:
        kept = {}
    words = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": config.short_side or config.size} if crop else square,
        "resample": int(_RESAMPLING[config.interpolation]),
        "do_center_crop": crop,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        "diptych_resize": config.resize,
    }
    return words | kept


def from_hf(data: Mapping[str, Any], source: str = "preprocessor_config.json") -> ImageConfig:
    """The `ImageConfig` that does what a Hugging Face image processor does. Raises `InputError` naming the field."""
    if not data.get("do_resize", True):
        raise InputError(f"{source}: do_resize: expected true, got false")
    edge = data.get("size", 224)
    crop = data.get("crop_size", edge)
    whole = _side(edge, source, "size")
    size = _side(crop, source, "crop_size") if data.get("do_center_crop", False) else whole
    squash = isinstance(edge, Mapping) and "height" in edge and not data.get("do_center_crop", False)
    resample = data.get("resample", int(Image.Resampling.BICUBIC))
    names = {int(value): name for name, value in _RESAMPLING.items()}
    if resample not in names:
        raise InputError(f"{source}: resample: expected a number from 0 to 5, got {resample!r}")
    resize = data.get("diptych_resize", "squash" if squash else "crop")
    kept: dict[str, Any] = {}
    if "size_divisor" in data:  # ViLT's
        resize = "keep"
        longest = edge.get("longest_edge") if isinstance(edge, Mapping) else None
        kept = {"long_side": longest or int(1333 / 800 * size), "multiple": data["size_divisor"]}
    normalised = data.get("do_normalize", True)
    mean = _channels(data.get("image_mean", CLIP_MEAN), source, "image_mean") if normalised else (0.0, 0.0, 0.0)
    std = _channels(data.get("image_std", CLIP_STD), source, "image_std") if normalised else (1.0, 1.0, 1.0)
    return ImageConfig(
        size=size,
        resize=resize,
        interpolation=names[resample],
        short_side=whole if whole > size and not squash else None,
        mean=mean,
        std=std,
        **kept,
    )


def _side(value: Any, source: str, name: str) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        for key in ("shortest_edge", "height"):
            if isinstance(value.get(key), int) and value.get("width", value[key]) == value[key]:
                return int(value[key])
    raise InputError(f"{source}: {name}: expected one side in pixels, got {value!r}")


def _channels(value: Any, source: str, name: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(channel) for channel in value)
    except (TypeError, ValueError):
        raise InputError(f"{source}: {name}: expected three numbers, got {value!r}") from None
    return red, green, blue
