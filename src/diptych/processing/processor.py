"""The processor of every model that pairs a picture with a text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.config import read_file
from diptych.processing import documents as interleaved
from diptych.processing.augment import augment_pairs
from diptych.processing.image import ImageProcessor
from diptych.processing.text import TextProcessor
from diptych.types import Batch, InputError, Message

_FLIP = "diptych_flip"  # in preprocessor_config.json


class PairProcessor:
    """Pictures through `image`, captions through `text`, both into one `Batch` (see `diptych.capabilities.Processor`).

    Args:
        image: prepares pictures.
        text: prepares captions.
        flip: whether `augment` also mirrors half of the pictures and swaps "left" and "right" in their captions.
    """

    def __init__(self, image: ImageProcessor, text: TextProcessor, *, flip: bool = False) -> None:
        self.image = image
        self.text = text
        self.flip = flip

    def decode_image(self, data: Any) -> NDArray[np.uint8]:
        """One picture (encoded bytes, a path, a PIL image or an array) as uint8 (H, W, 3) at the model's size."""
        return self.image(data)

    def collate(
        self,
        ids: list[str],
        images: list[NDArray[np.uint8]] | NDArray[np.uint8] | None,
        texts: list[str] | None,
        *,
        prompts: list[str] | None = None,
        more: Sequence[Sequence[tuple[str, str]]] | None = None,
        documents: Sequence[Sequence[Message]] | None = None,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Stack decoded pictures (uint8 B C H W, channels last in memory) and tokenize texts, padded to the longest.

        One array B H W C of pictures is taken as it is, without a copy.

        With `prompts`, each text is the answer to its prompt, a question, or a text of its own where that is "", and
        `more` questions with their answers follow (see `TextProcessor.answers`).

        With `documents` there are no `texts`: each is a row, and `images` are the pictures of all of them, in order,
        one for each of their places. A document that is too long loses its end, and the pictures there.

        `augment` (training only) cuts a random part out of each picture, drawn from `generator`, and with `flip`
        mirrors half of them, unless there are prompts; see `augment_pairs`.
        """
        batch = Batch(ids=ids)
        if images is not None:
            stacked = images if isinstance(images, np.ndarray) else np.stack(images)
            batch.pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2)
            if augment:
                if generator is None:
                    raise ValueError("augment needs a generator, so that a run can be repeated")
                flip = self.flip and texts is not None and prompts is None
                batch.pixels, texts = augment_pairs(batch.pixels, texts, generator, flip=flip)
        if documents is not None:
            self._read(documents, batch)
        elif texts is not None and prompts is not None:
            batch.tokens, batch.token_mask, batch.target_mask = self.text.answers(prompts, texts, more)
        elif texts is not None:
            batch.tokens, batch.token_mask = self.text(texts)
        return batch

    def _read(self, documents: Sequence[Sequence[Message]], batch: Batch) -> None:
        """Fill in the texts of a batch, and which of its pictures belongs to which."""
        rows = interleaved.rows(self.text, documents)
        batch.tokens, batch.token_mask, batch.target_mask = rows.tokens, rows.mask, rows.target_mask
        own = [sum(message.text.count(interleaved.IMAGE) for message in messages) for messages in documents]
        batch.picture_of = torch.arange(len(own)).repeat_interleave(torch.tensor(own, dtype=torch.long))
        kept = torch.tensor(
            [i < room for count, room in zip(own, rows.pictures) for i in range(count)], dtype=torch.bool
        )
        batch.picture_of = batch.picture_of[kept]
        if batch.pixels is not None:
            batch.pixels = batch.pixels[kept] if kept.any() else None

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        return hashlib.sha256(f"{self.image.fingerprint()} {self.text.fingerprint()}".encode()).hexdigest()[:16]

    def image_fingerprint(self) -> str:
        """A short hash of what becomes of pictures alone: a cache of image features outlives a new tokenizer."""
        return self.image.fingerprint()

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`, `tokenizer.json` and `tokenizer_config.json`."""
        self.image.save(folder)
        self.text.save(folder)
        if self.flip:
            path = Path(folder) / "preprocessor_config.json"
            path.write_text(json.dumps(read_file(path) | {_FLIP: True}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PairProcessor:
        """Read what `save` wrote, or the same files of a Hugging Face folder. Raises `InputError`."""
        path = Path(folder) / "preprocessor_config.json"
        image = ImageProcessor.load(folder)
        flip = read_file(path).get(_FLIP, False)
        if not isinstance(flip, bool):
            raise InputError(f"{path}: {_FLIP}: expected true or false, got {flip!r}")
        return cls(image, TextProcessor.load(folder), flip=flip)


class PictureProcessor:
    """Pictures alone, for a model without texts (see `diptych.capabilities.Processor`)."""

    def __init__(self, image: ImageProcessor) -> None:
        self.image = image

    def decode_image(self, data: Any) -> NDArray[np.uint8]:
        """One picture (encoded bytes, a path, a PIL image or an array) as uint8 (H, W, 3) at the model's size."""
        return self.image(data)

    def collate(
        self,
        ids: list[str],
        images: list[NDArray[np.uint8]] | NDArray[np.uint8] | None,
        texts: list[str] | None = None,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Stack decoded pictures (uint8 B C H W); `augment` as in `PairProcessor.collate`. Texts are not read."""
        batch = Batch(ids=ids)
        if images is not None:
            stacked = images if isinstance(images, np.ndarray) else np.stack(images)
            batch.pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2)
            if augment and generator is not None:
                batch.pixels, _ = augment_pairs(batch.pixels, None, generator)
        return batch

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        return self.image.fingerprint()

    def image_fingerprint(self) -> str:
        """The same."""
        return self.image.fingerprint()

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`."""
        self.image.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> PictureProcessor:
        """Read what `save` wrote. Raises `InputError`."""
        return cls(ImageProcessor.load(folder))
