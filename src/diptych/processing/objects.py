"""The processor of a model that finds things: pictures with the boxes that are known of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.config import read_file
from diptych.processing.image import ImageProcessor
from diptych.processing.processor import PictureProcessor
from diptych.types import UNLISTED, Batch, InputError, Object

NAMES = "names.json"


class ObjectProcessor(PictureProcessor):
    """Pictures through `image`, and the boxes of their things as shares of what the model sees.

    Args:
        names: the classes that things are told apart by.
    """

    def __init__(self, image: ImageProcessor, names: Sequence[str]) -> None:
        super().__init__(image)
        self.names = list(names)
        self._number = {name: i for i, name in enumerate(self.names)}

    def collate(
        self,
        ids: list[str],
        images: list[NDArray[np.uint8]] | NDArray[np.uint8] | None,
        texts: list[str] | None = None,
        *,
        objects: Sequence[tuple[tuple[int, int], Sequence[Object]]] | None = None,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Stack decoded pictures (uint8 B C H W); texts are not read.

        Args:
            objects: for each picture its width and height before it was decoded, and the things in it. Those without a
                box, crowds and stuff are left out, and so is what the model does not see.
            augment: not here, because a part that is cut out has other boxes.
        """
        if augment:
            raise InputError("loader.augment: expected false, because boxes do not follow what is cut out")
        batch = super().collate(ids, images)
        if objects is not None:
            found = [(row, one) for row, (size, things) in enumerate(objects) for one in self._seen(size, things)]
            batch.box_of = torch.tensor([row for row, _ in found], dtype=torch.long)
            batch.boxes = torch.tensor([box for _, (box, _) in found], dtype=torch.float32).reshape(-1, 4)
            batch.names = torch.tensor([name for _, (_, name) in found], dtype=torch.long)
        return batch

    def _seen(self, size: tuple[int, int], things: Sequence[Object]) -> list[tuple[list[float], int]]:
        """Boxes of the things as shares of what the model sees, with their classes."""
        left, top, right, bottom = self.image.shown(*size)
        found = []
        for thing in things:
            if thing.box is None or thing.kind != "thing":
                continue
            x0, y0, x1, y1 = thing.box
            spans = (x0 - left) / (right - left), (y0 - top) / (bottom - top), (x1 - left) / (right - left)
            box = [min(1.0, max(0.0, one)) for one in (*spans, (y1 - top) / (bottom - top))]
            if box[0] < box[2] and box[1] < box[3]:
                found.append((box, self._number.get(thing.name, UNLISTED)))
        return found

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        return hashlib.sha256(f"{self.image.fingerprint()} {json.dumps(self.names)}".encode()).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json` and `names.json`."""
        super().save(folder)
        (Path(folder) / NAMES).write_text(json.dumps({"names": self.names}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> ObjectProcessor:
        """Read what `save` wrote. Raises `InputError`."""
        path = Path(folder) / NAMES
        names = read_file(path).get("names")
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise InputError(f"{path}: names: expected a list of texts")
        return cls(ImageProcessor.load(folder), names)
