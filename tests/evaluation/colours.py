"""A tiny world for the evaluators: one-colour pictures, captions that name it, models that know or do not."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.data.store import Dataset, DatasetWriter
from diptych.images import decode
from diptych.types import Batch, EncodedImage, Sample

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (20, 40, 220),
    "yellow": (240, 220, 20),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "pink": (250, 150, 190),
    "orange": (250, 140, 10),
    "grey": (128, 128, 128),
    "brown": (110, 60, 20),
}
NAMES = list(COLOURS)


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def sample(
    id: str, colour: str, captions: Iterable[str], label: str | None = None, data: bytes | None = None
) -> Sample:
    image = EncodedImage(data=picture(colour) if data is None else data)
    return Sample(id, images=[image], captions=list(captions), label=label)


def dataset(folder: Path, samples: Iterable[Sample]) -> Dataset:
    with DatasetWriter(folder, name="colours") as writer:
        for one in samples:
            writer.write(one)
    return Dataset.open(folder)


class ColourProcessor:
    """Pictures as 4 x 4 pixels; a text as the number of the colour that it names, or one past the last."""

    def decode_image(self, data: Any) -> np.ndarray:
        return np.asarray(decode(data).resize((4, 4)))

    def collate(self, ids: list[str], images: list[Any] | None, texts: list[str] | None) -> Batch:
        pixels = None if images is None else torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        tokens = None if texts is None else torch.tensor([[self.colour_of(text)] for text in texts])
        mask = None if tokens is None else torch.ones_like(tokens, dtype=torch.bool)
        return Batch(ids=ids, pixels=pixels, tokens=tokens, token_mask=mask)

    def colour_of(self, text: str) -> int:
        words = text.lower().replace(".", " ").split()
        return next((i for i, name in enumerate(NAMES) if name in words), len(NAMES))

    def fingerprint(self) -> str:
        return "colours"

    def image_fingerprint(self) -> str:
        return self.fingerprint()


class Oracle:
    """Sees the colour and knows its name; each colour is a direction of the joint space."""

    def __init__(self) -> None:
        self.processor = ColourProcessor()
        self.space = torch.eye(len(NAMES) + 1)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        mean = pixels.float().mean(dim=(2, 3))
        distance = torch.cdist(mean, torch.tensor(list(COLOURS.values()), dtype=torch.float32))
        return self.space[distance.argmin(dim=1)]

    def encode_text(self, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        return self.space[tokens[:, 0]]


class Blind(Oracle):
    """Sees nothing: every picture has the same vector."""

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(pixels), len(self.space)) / len(self.space) ** 0.5


class OffByOne(Oracle):
    """Takes each colour for the next one in the list."""

    def encode_text(self, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        return self.space[(tokens[:, 0] + 1) % len(NAMES)]
