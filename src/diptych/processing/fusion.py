"""The processor of models that read picture and text together: a row for each caption, question and wrong text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.config import read_file
from diptych.processing.augment import augment_pairs
from diptych.processing.image import ImageProcessor
from diptych.processing.text import TextProcessor
from diptych.types import NOT_ASKED, UNKNOWN, UNLISTED, Batch, InputError, Message

ANSWERS = "answers.json"
IMAGE = "<image>"


class FusionProcessor:
    """Pictures through `image`, captions and questions through `text` (see `diptych.capabilities.Processor`).

    A question is read alone; its answer becomes a number, its place in `answers`.

    Args:
        answers: what a question can be answered with.
    """

    def __init__(self, image: ImageProcessor, text: TextProcessor, answers: Sequence[str] = ()) -> None:
        self.image = image
        self.text = text
        self.answers = list(answers)
        self._number = {answer: i for i, answer in enumerate(self.answers)}

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
        wrong: Sequence[Sequence[str]] | None = None,
        documents: Sequence[Sequence[Message]] | None = None,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Stack decoded pictures (uint8 B C H W) and tokenize texts, a row each, padded to the longest.

        Args:
            prompts: a question for each text, which is its answer, "" where nobody said; "" for a caption.
            more: further questions with their answers, rows of their own (see `Batch.text_of`).
            wrong: texts that do not fit their picture, rows of their own (see `Batch.fits`).
            documents: in place of texts, a question about several pictures and its answer: a user's message and an
                assistant's. `images` are those of all documents, in order.
        """
        batch = Batch(ids=ids)
        if images is not None:
            stacked, batch.picture_sizes = _padded(images)
            batch.pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2)
            if augment:
                if generator is None:
                    raise ValueError("augment needs a generator, so that a run can be repeated")
                batch.pixels, _ = augment_pairs(batch.pixels, None, generator, flip=False)
        if documents is not None:
            rows = [[self._asked(id, messages)] for id, messages in zip(ids, documents)]
            own = torch.tensor([sum(one.text.count(IMAGE) for one in some) for some in documents])
            batch.picture_of = torch.arange(len(ids)).repeat_interleave(own)
        elif texts is not None:
            asked = prompts or [""] * len(texts)
            rest: Sequence[Sequence[tuple[str, str]]] = more or [()] * len(texts)
            rows = [[(p, t), *turns] for p, t, turns in zip(asked, texts, rest)]
        else:
            return batch
        said = [
            [*((q or t, True) for q, t in some), *((t, False) for t in bad)]
            for some, bad in zip(rows, wrong or [()] * len(rows))
        ]
        batch.tokens, batch.token_mask = self.text([text for some in said for text, _ in some])
        if any(len(some) != 1 for some in said):
            batch.text_of = torch.arange(len(ids)).repeat_interleave(torch.tensor([len(some) for some in said]))
        if wrong is not None:
            batch.fits = torch.tensor([fits for some in said for _, fits in some])
        if any(question for some in rows for question, _ in some):
            batch.answers = torch.tensor(
                [
                    number
                    for some, whole in zip(rows, said)
                    for number in [*(self._answer(q, t) for q, t in some), *[NOT_ASKED] * (len(whole) - len(some))]
                ]
            )
        return batch

    def _answer(self, question: str, answer: str) -> int:
        if not question:
            return NOT_ASKED
        return self._number.get(answer, UNLISTED) if answer else UNKNOWN

    @staticmethod
    def _asked(id: str, messages: Sequence[Message]) -> tuple[str, str]:
        asked = [one.text for one in messages if one.role == "user"]
        answered = [one.text for one in messages if one.role == "assistant"]
        if len(asked) != 1 or len(answered) != 1:
            raise InputError(f"{id}: expected a question and an answer, got {len(messages)} messages")
        return asked[0].replace(IMAGE, "").strip(), answered[0]

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        parts = f"{self.image.fingerprint()} {self.text.fingerprint()} {json.dumps(self.answers)}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def image_fingerprint(self) -> str:
        """A short hash of what becomes of pictures alone."""
        return self.image.fingerprint()

    def save(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`, `tokenizer.json`, `tokenizer_config.json` and `answers.json`."""
        self.image.save(folder)
        self.text.save(folder)
        (Path(folder) / ANSWERS).write_text(json.dumps({"answers": self.answers}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FusionProcessor:
        """Read what `save` wrote. Raises `InputError`."""
        path = Path(folder) / ANSWERS
        answers = read_file(path).get("answers")
        if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
            raise InputError(f"{path}: answers: expected a list of texts")
        return cls(ImageProcessor.load(folder), TextProcessor.load(folder), answers)


def _padded(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> tuple[NDArray[np.uint8], torch.Tensor | None]:
    """Pictures in one array, black at the right and below where they are smaller than others, and their sizes then."""
    if isinstance(images, np.ndarray):
        return images, None
    shapes = np.array([image.shape[:2] for image in images])
    if (shapes == shapes[0]).all():
        return np.stack(list(images)), None
    whole = np.zeros((len(images), *shapes.max(axis=0), 3), np.uint8)
    for row, image in zip(whole, images):
        row[: image.shape[0], : image.shape[1]] = image
    return whole, torch.from_numpy(shapes)


def common(answers: Iterable[str]) -> list[str]:
    """The answers that there are, the commonest first; of equally common ones the first in the alphabet first."""
    counted = sorted(Counter(answers).items(), key=lambda pair: (-pair[1], pair[0]))
    return [answer for answer, _ in counted]
