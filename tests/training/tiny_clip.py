"""The real CLIP, very small, on real pictures of one colour behind the real loader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.data.loader import Loader
from diptych.data.store import Dataset
from diptych.data.writer import DatasetWriter
from diptych.models.clip import CLIP, CLIPConfig
from diptych.processing import ImageConfig
from diptych.towers import TextTransformerConfig, ViTConfig
from diptych.types import EncodedImage, Sample

SHADES = {"black": 0, "dark": 80, "light": 170, "white": 255}
CAPTIONS = [f"a picture with {r} red {g} green and {b} blue" for r in SHADES for g in SHADES for b in SHADES]
CONFIG = CLIPConfig(
    ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2),
    TextTransformerConfig(vocab_size=300, context_length=16, width=24, layers=2, heads=2, eos_id=1),
    ImageConfig(size=16),
    embed_dim=16,
)


def colours(folder: Path) -> Dataset:
    """64 pictures, each of its own colour, which its caption describes."""
    values = list(SHADES.values())
    generator = np.random.default_rng(0)
    with DatasetWriter(folder, name="colours") as writer:
        for i, caption in enumerate(CAPTIONS):
            colour = np.array([values[i // 16], values[i // 4 % 4], values[i % 4]])
            pixels = np.clip(colour + generator.normal(0, 5, (16, 16, 3)), 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            writer.write(Sample(id=f"c{i:02d}", images=[EncodedImage(data=file.getvalue())], captions=[caption]))
    return Dataset.open(folder)


def tiny_clip() -> CLIP:
    return CLIP.new(CONFIG, CAPTIONS, seed=0)


def loader(data: Dataset, model: CLIP, rank: int = 0, world: int = 1, batch_size: int = 16) -> Loader:
    assert model.processor is not None
    return Loader(data, model.processor, batch_size, shuffle=True, drop_last=True, threads=1, part=(rank, world))
