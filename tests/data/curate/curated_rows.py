"""Rows, drawings and datasets for the tests of curation, and a dual encoder that sees colours."""

import hashlib
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.steps import Decision, Models, Step, Tools, no_models
from diptych.data.schema import TEXTS
from diptych.data.store import Dataset
from diptych.data.writer import DatasetWriter
from diptych.types import EncodedImage, Sample

TOOLS = Tools(seed=0, models=no_models, measure=lambda step, other: None)


def rows(captions: Sequence[Sequence[str]] | None = None, **columns: Sequence[Any]) -> pa.Table:
    """A table as steps get it: "row", "id" (the row's number by default) and the given columns."""
    given = {**({"captions": captions} if captions is not None else {}), **columns}
    count = len(next(iter(given.values())))
    arrays = {"row": pa.array(np.arange(count)), "id": pa.array([str(i) for i in range(count)])}
    for name, values in given.items():
        texts = name in ("captions", "tags")
        arrays[name] = values if isinstance(values, pa.Array) else pa.array(values, TEXTS if texts else None)
    table = pa.table(arrays)
    return pa.concat_tables([table.slice(0, 1), table.slice(1)])  # in chunks, as tables of datasets are


def kept(decision: Decision) -> list[int]:
    """The rows that stay."""
    assert decision.keep is not None
    return np.flatnonzero(decision.keep).tolist()


def decided(step: Step, table: pa.Table) -> Decision:
    """What a step that measures nothing makes of a table."""
    return step.decide(table, TOOLS)


def drawing(seed: int, noise: int = 0, size: int = 64) -> Image.Image:
    """A picture of 8 x 8 soft blots."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    big += np.random.default_rng(1).integers(-noise, noise + 1, big.shape)
    return Image.fromarray(big.clip(0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """The picture's file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def write(folder: Path, samples: Sequence[Sample]) -> Dataset:
    """A dataset of these samples."""
    with DatasetWriter(folder) as writer:
        for sample in samples:
            writer.write(sample)
    return Dataset.open(folder)


def picture(id: str, data: bytes | None, *captions: str, **fields: Any) -> Sample:
    """A sample with one picture, or with none for None."""
    images = [] if data is None else [EncodedImage(data=data)]
    return Sample(id=id, images=images, captions=list(captions), **fields)


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Colours:
    """A dual encoder whose space is the colour cube: a picture is its mean colour, a text the colour that it names."""

    fingerprint = "colours 1"

    def images(self, pictures: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        vectors, read = np.zeros((len(pictures), 3), np.float32), np.zeros(len(pictures), bool)
        for i, data in enumerate(pictures):
            if data.startswith(b"\x89PNG"):
                mean = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32).mean(axis=(0, 1))
                vectors[i], read[i] = mean / np.linalg.norm(mean), True
        return vectors, read

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        found = [next(rgb for name, rgb in COLOURS.items() if name in text) for text in texts]
        return np.array(found, np.float32) / 255


def colours(address: str) -> Colours:
    """A function of a module, as Ray needs it."""
    assert address == "colours"
    return Colours()


def digest(folder: Path) -> dict[str, str]:
    """A hash of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Noted(Duplicates):
    """`Duplicates` whose workers note in a folder who they are and which rows they have begun, and take their time."""

    folder: str = ""

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        (Path(self.folder) / f"{os.getpid()}.{batch['row'][0].as_py()}").touch()
        time.sleep(0.05)
        return super().measure(batch, models)
