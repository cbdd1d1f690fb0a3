"""From a dataset to batches: rows are read and pictures decoded on threads while the model works on earlier batches.

Which sample stands where, and which of its captions is drawn, is a pure function of (seed, epoch): a run that is killed
goes on with the very batches that it would have seen.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from diptych.capabilities import Processor
from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, read_bytes, size_of
from diptych.types import Batch, InputError, Message, Object, Question, Rejected, Sample

ROWS_PER_TASK = 16  # what one thread takes at a time
BATCHES_AHEAD = 2  # prepared while the model works; bounds the memory
MAX_THREADS = 16

Texts = Literal["captions", "questions", "both", "dialogues", "documents"]
"""What a row's text is drawn from."""

FIELDS: dict[Texts, set[str]] = {
    "captions": {"captions"},
    "questions": {"questions"},
    "both": {"captions", "questions"},
    "dialogues": {"captions", "questions"},
    "documents": {"messages", "captions", "questions"},
}
PLACE = "<image>"  # a picture's in the text of a message
SAID = ("assistant", "document")  # roles whose messages a model is to say itself

MISSING: dict[Texts, tuple[str, str]] = {
    "captions": ("caption missing", "the sample has no caption"),
    "questions": ("question missing", "the sample has no question with an answer"),
    "both": ("text missing", "the sample has no caption, and no question with an answer"),
    "dialogues": ("text missing", "the sample has no caption, and no question with an answer"),
    "documents": ("text missing", "the sample has no message, no caption, and no question with an answer"),
}


class _Item(NamedTuple):
    id: str
    at: int  # its place in the batch before bad rows are left out
    image: bool
    text: str | None
    prompt: str = ""  # what the text is said after: a question
    more: tuple[tuple[str, str], ...] = ()  # questions with their answers that follow
    features: Any = None  # a vector that stands in for the picture
    wrong: tuple[str, ...] = ()  # texts that do not fit the picture
    document: tuple[Message, ...] = ()  # stands in for text and prompt
    pictures: tuple[Any, ...] = ()  # of the document, decoded
    objects: tuple[tuple[int, int], list[Object]] | None = None  # the picture's sides as it lies there, and its things


class _Pictures:
    """The decoded pictures of one batch, each written to its place in one array as soon as it is there.

    Keeping them apart until the batch is whole costs a third of the loader's speed: their memory goes back to the
    system after each batch and is asked for again page by page.
    """

    def __init__(self, count: int, view: _Pictures | None = None) -> None:
        self.view = view  # the same pictures as somebody else sees them
        self._count = count
        self._array: np.ndarray[Any, Any] | None = None
        self._other: dict[int, Any] = {}  # of another shape or type than the first
        self._lock = threading.Lock()

    def put(self, at: int, picture: Any) -> None:
        if isinstance(picture, np.ndarray):
            with self._lock:
                if self._array is None:
                    self._array = np.empty((self._count, *picture.shape), picture.dtype)
            if picture.shape == self._array.shape[1:] and picture.dtype == self._array.dtype:
                self._array[at] = picture
                return
        self._other[at] = picture

    def of(self, items: list[_Item]) -> Any:
        """The pictures of the items, black where there is none: one array if they are alike, else a list."""
        if self._array is not None:
            for item in items:
                if not item.image:
                    self._array[item.at] = 0
        if self._array is None:  # nothing but objects of the processor's own
            blank = np.zeros_like(next(iter(self._other.values())))
            return [self._other.get(item.at, blank) for item in items]
        if self._other:
            return [self._other.get(item.at, self._array[item.at]) for item in items]
        return self._array if len(items) == self._count else self._array[[item.at for item in items]]


class Loader:
    """Batches of a dataset, epoch by epoch.

    Rows that cannot be used (a damaged picture, no caption, no feature) are left out of their batch and kept, once
    each, in `rejected`; a batch of which nothing is left comes as an empty one, so that their number never changes.

    Args:
        dataset: where the samples are.
        processor: makes the model's batch of them; `decode_image` runs on worker threads, `collate` once a batch.
        batch_size: samples in a batch over all ranks together; rank r gets the r-th contiguous slice of each batch.
        shuffle: a new order in each epoch, or the dataset's own.
        seed: of the order, the captions drawn and the augmentation.
        threads: that decode; one a core by default.
        drop_last: leave out the last batch of an epoch if it is not full.
        part: (rank, world size): this process among those that share each batch.
        image_features: vectors by sample id that stand in for pictures (see `Batch.image_features`).
        sides: what a row must have. "both": a picture and a caption. "images", "texts": that side, and the other is
            left out. "captioned": a text, with a picture where it has one; then `Batch.has_image` says where, and is
            None in a batch where all rows have one. "either": one of them, so that pairs, lone pictures and lone texts
            come mixed; then `Batch.has_image` and `has_text` say who has what, and a batch in which no row has a side
            comes without its tensors.
        texts: what a row's text is: one of its "captions"; the answer to one of its "questions", which becomes the
            prompt; "both", in equal shares where a row has both; "dialogues": a caption and questions one after the
            other, so that a picture is looked at once for all of them, in half of the rows the caption first; or
            "documents": its messages with a picture at each `<image>`, and where it has none, the document of one turn
            that its pictures and its text of "both" make.
        wrong: texts known not to fit (`Sample.negatives`) that a row gets at most, beside its own (see `Batch.fits`);
            of each kind one is as likely as of another. Not with documents.
        objects: whether the things in each picture come with it (see `Batch.boxes`); a picture without is one in which
            there is nothing. Not with documents.
        unlabelled: whether questions without an answer are taken too, unless there is none; their answer is "".
        view: another processor, a teacher's, that makes its own batch of the same samples and texts, `Batch.view`,
            without augmentation. Not with documents or image features.
        turns: questions in a row, one after the other, where a sample has so many; documents have their own.
        augment: let the processor change pictures at random (`collate(..., augment=True, generator=...)`).

    Raises:
        InputError: a batch size below 1 or not divisible by `world_size`, a rank that does not exist, turns below 1, or
            documents without both sides as they are, or a view of documents or features.
    """

    def __init__(  # noqa: PLR0913  (a dataset can be read in many ways)
        self,
        dataset: Dataset,
        processor: Processor,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        threads: int | None = None,
        part: tuple[int, int] = (0, 1),
        image_features: Mapping[str, np.ndarray[Any, Any]] | None = None,
        sides: Literal["both", "images", "texts", "captioned", "either"] = "both",
        texts: Texts = "captions",
        turns: int = 1,
        wrong: int = 0,
        objects: bool = False,
        unlabelled: bool = False,
        view: Processor | None = None,
        augment: bool = False,
    ) -> None:
        rank, world_size = part
        if batch_size < 1 or batch_size % world_size:
            raise InputError(f"batch_size: expected a positive multiple of {world_size} processes, got {batch_size}")
        if not 0 <= rank < world_size:
            raise InputError(f"rank: expected 0 to {world_size - 1}, got {rank}")
        if turns < 1:
            raise InputError(f"turns: expected 1 or more, got {turns}")
        if texts == "documents" and (sides != "both" or image_features is not None):
            raise InputError("texts: 'documents' have their own pictures; expected sides 'both' and no image features")
        if view is not None and (texts == "documents" or image_features is not None):
            raise InputError("view: expected neither documents nor image features")
        self.dataset = dataset
        self.processor = processor
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.threads = threads or min(MAX_THREADS, os.cpu_count() or 1)
        self.rank = rank
        self.world_size = world_size
        self.image_features = image_features
        self.images = sides != "texts"
        self.texts = None if sides == "images" else texts
        self.turns = turns
        self.wrong = wrong
        self.objects = objects
        self.unlabelled = unlabelled
        self.view = view
        self.either = sides == "either"
        self.lone_texts = sides in ("captioned", "either")
        self.augment = augment
        self._decodes = self.images and image_features is None
        self.rejected: list[Rejected] = []
        self._rejected_ids: set[str] = set()

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from batch `start` on; the earlier ones are not decoded.

        Closing the iterator early stops the threads. An error of the processor is raised here, at its batch.
        """
        order = self._order(number)
        waiting: deque[Future[tuple[Batch, list[Rejected]]]] = deque()
        # `desk` has one thread, which waits for the parts of one batch after the other: no decoding thread ever waits
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        desk = ThreadPoolExecutor(1, thread_name_prefix="collate")
        try:
            for index in range(start, len(self)):
                rows = self._slice(order, index)
                cuts = range(0, len(rows), ROWS_PER_TASK)
                pictures = _Pictures(len(rows), None if self.view is None else _Pictures(len(rows)))
                parts = [pool.submit(self._read, rows, cut, pictures, number) for cut in cuts]
                waiting.append(desk.submit(self._assemble, parts, pictures, number, index))
                if len(waiting) > BATCHES_AHEAD:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
            desk.shutdown(cancel_futures=True)

    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))

    def _slice(self, order: np.ndarray[Any, Any], index: int) -> np.ndarray[Any, Any]:
        """This rank's rows of batch `index`; the parts of a batch that is not full differ by at most one row."""
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return rows[len(rows) * self.rank // self.world_size : len(rows) * (self.rank + 1) // self.world_size]

    def _read(self, rows: np.ndarray[Any, Any], cut: int, pictures: _Pictures, epoch: int) -> list[_Item | Rejected]:
        """Read and decode a few rows of a batch, from place `cut` on; runs on worker threads."""
        fields = {"images"} if self._decodes else set()
        if self.texts is not None:
            fields |= FIELDS[self.texts]
        if self.wrong:
            fields |= {"negatives"}
        if self.objects:
            fields |= {"objects"}
        samples = self.dataset.take(rows[cut : cut + ROWS_PER_TASK], fields)
        return [self._item(sample, at, pictures, epoch) for at, sample in enumerate(samples, cut)]

    def _item(self, sample: Sample, at: int, pictures: _Pictures, epoch: int) -> _Item | Rejected:
        if self.texts == "documents":
            return self._document(sample, at, epoch)
        features, size = None, (0, 0)
        image = self._decodes and not (self.lone_texts and not sample.images)
        prompt, text, more = self._text(sample, epoch)
        if text is None and self.texts is not None and not self.either:
            reason, detail = MISSING[self.texts]
            return Rejected(sample.id, reason, detail)
        if image:
            try:
                source = image_source(sample)
                if isinstance(source, Path) and (self.objects or self.view is not None):
                    source = read_bytes(source)
                pictures.put(at, self.processor.decode_image(source))
                if self.view is not None and pictures.view is not None:
                    pictures.view.put(at, self.view.decode_image(source))
                if self.objects:
                    size = size_of(source)
            except BadImage as error:
                return Rejected(sample.id, error.reason, error.detail)
        elif self.images and self.image_features is not None:
            features = self.image_features.get(sample.id)
            image = features is not None
            if not image and not self.lone_texts:
                return Rejected(sample.id, "image feature missing", "no feature was given for this id")
        if not image and text is None:
            return Rejected(sample.id, "image and caption missing", "the sample has neither")
        item = _Item(sample.id, at, image, text, prompt, more, features, self._wrong(sample, epoch))
        return item._replace(objects=(size, sample.objects)) if self.objects else item

    def _wrong(self, sample: Sample, epoch: int) -> tuple[str, ...]:
        """Some of its wrong texts, all different."""
        of: dict[str, list[str]] = defaultdict(list)
        for one in sample.negatives if self.wrong else ():
            of[one.kind].append(one.text)
        kinds = sorted(of)
        found = []
        for i in range(self.wrong):
            if not kinds:
                break
            kind = kinds[self._draw(epoch, sample.id, len(kinds), f"wrong{i}")]
            found.append(of[kind].pop(self._draw(epoch, sample.id, len(of[kind]), f"wrong text{i}")))
            if not of[kind]:
                kinds.remove(kind)
        return tuple(found)

    def _document(self, sample: Sample, at: int, epoch: int) -> _Item | Rejected:
        messages = tuple(sample.messages)
        if not messages:
            prompt, text, _ = self._text(sample, epoch)
            if text is None:
                return Rejected(sample.id, *MISSING["documents"])
            places = PLACE * len(sample.images)
            turns = [Message("user", places + prompt), Message("assistant", text)]
            messages = tuple(turns) if prompt else (Message("document", places + text),)
        count = sum(message.text.count(PLACE) for message in messages)
        if count != len(sample.images):
            detail = f"expected {PLACE} in the messages for each of {len(sample.images)} pictures, got {count}"
            return Rejected(sample.id, "pictures without place", detail)
        try:
            pictures = tuple(self.processor.decode_image(image_source(sample, i)) for i in range(count))
        except BadImage as error:
            return Rejected(sample.id, error.reason, error.detail)
        return _Item(sample.id, at, bool(pictures), "", document=messages, pictures=pictures)

    def _text(self, sample: Sample, epoch: int) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
        """(the prompt, what is to be said after it, turns that follow), drawn from what the sample has, or None."""
        captions = [] if self.texts == "questions" else sample.captions
        asked = [] if self.texts in ("captions", None) else sample.questions
        asked = [one for one in asked if one.answers or (self.unlabelled and one.answerable is not False)]
        if self.texts is None or not (asked or captions):
            return "", None, ()
        said = [("", captions[self._draw(epoch, sample.id, len(captions))])] if captions else []
        questions_first = self._draw(epoch, sample.id, 2, "kind") == 1
        if asked and (not captions or questions_first or self.texts == "dialogues"):
            first = self._draw(epoch, sample.id, len(asked), "question")
            answered = [
                (one.question, self._answer(one, sample.id, epoch, i))
                for i, one in enumerate((asked[first:] + asked[:first])[: self.turns])
            ]
            if self.texts != "dialogues":
                said = answered
            else:
                said = answered + said if questions_first else said + answered
        (prompt, text), *more = said
        return prompt, text, tuple(more)

    def _answer(self, asked: Question, id: str, epoch: int, turn: int) -> str:
        answers = asked.answers or [""]
        return answers[self._draw(epoch, id, len(answers), f"answer{turn or ''}")]

    def _draw(self, epoch: int, id: str, count: int, what: str = "") -> int:
        digest = hashlib.blake2b(f"{self.seed}\0{epoch}\0{id}{what and chr(0) + what}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % count

    def _assemble(
        self, parts: list[Future[list[_Item | Rejected]]], pictures: _Pictures, epoch: int, index: int
    ) -> tuple[Batch, list[Rejected]]:
        found = [entry for part in parts for entry in part.result()]
        items = [entry for entry in found if isinstance(entry, _Item)]
        rejected = [entry for entry in found if isinstance(entry, Rejected)]
        if not items:
            return Batch(ids=[]), rejected
        seen, told = [item.image for item in items], [item.text is not None for item in items]
        texts = [item.text or "" for item in items] if any(told) else None
        options: dict[str, Any] = {}
        if self.texts == "documents":
            images = [picture for item in items for picture in item.pictures] or None
            texts, options["documents"] = None, [item.document for item in items]
        else:
            images = pictures.of(items) if self._decodes and any(seen) else None
            if texts is not None and self.texts != "captions":
                options["prompts"] = [item.prompt for item in items]
                if self.turns > 1 or self.texts == "dialogues":
                    options["more"] = [item.more for item in items]
            if texts is not None and self.wrong:
                options["wrong"] = [item.wrong for item in items]
        if self.objects and images is not None:
            options["objects"] = [item.objects for item in items]
        if self.augment and images is not None:
            seed = np.random.SeedSequence([self.seed, epoch, index, self.rank]).generate_state(1, np.uint64)[0]
            options |= {"augment": True, "generator": torch.Generator().manual_seed(int(seed >> 1))}
        ids = [item.id for item in items]
        batch = self.processor.collate(ids, images, texts, **options)
        if self.view is not None:
            plain = {name: value for name, value in options.items() if name not in ("augment", "generator")}
            seen_so = pictures.view.of(items) if pictures.view is not None and images is not None else None
            batch.view = self.view.collate(ids, seen_so, texts, **plain)
        if any(seen) and not self._decodes:
            blank = np.zeros_like(next(item.features for item in items if item.image))
            rows = [item.features if item.image else blank for item in items]
            batch.image_features = torch.from_numpy(np.stack(rows).astype(np.float32))
        for one in (batch, batch.view):
            if one is not None and self.either:
                one.has_text = torch.tensor(told)
            if one is not None and (self.either or (self.lone_texts and not all(seen))):
                one.has_image = torch.tensor(seen)
        return batch, rejected

    def _finish(self, future: Future[tuple[Batch, list[Rejected]]]) -> Batch:
        batch, rejected = future.result()
        for row in rejected:
            if row.id not in self._rejected_ids:
                self._rejected_ids.add(row.id)
                self.rejected.append(row)
        return batch
