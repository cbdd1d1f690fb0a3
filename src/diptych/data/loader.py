"""From a dataset to batches: rows are read and pictures decoded on threads while the model works on earlier batches.

Which sample stands where, and which of its captions is drawn, is a pure function of (seed, epoch): a run that is killed
goes on with the very batches that it would have seen.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from diptych.data.store import Dataset, image_source
from diptych.images import BadImage
from diptych.types import Batch, InputError, Processor, Rejected, Sample

ROWS_PER_TASK = 16  # what one thread takes at a time
BATCHES_AHEAD = 2  # prepared while the model works; bounds the memory
MAX_THREADS = 16


class _Item(NamedTuple):
    id: str
    image: Any  # a decoded picture, a vector, or None
    text: str | None


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
        rank, world_size: this process among those that share each batch.
        image_features: vectors by sample id that stand in for pictures (see `Batch.image_features`).
        only: leave the other side out and do not ask for it.
        augment: let the processor change pictures at random (`collate(..., augment=True, generator=...)`).

    Raises:
        InputError: a batch size below 1 or not divisible by `world_size`, or a rank that does not exist.
    """

    def __init__(
        self,
        dataset: Dataset,
        processor: Processor,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        threads: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        image_features: Mapping[str, np.ndarray[Any, Any]] | None = None,
        only: Literal["images", "texts"] | None = None,
        augment: bool = False,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise InputError(f"batch_size: expected a positive multiple of {world_size} processes, got {batch_size}")
        if not 0 <= rank < world_size:
            raise InputError(f"rank: expected 0 to {world_size - 1}, got {rank}")
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
        self.images = only != "texts"
        self.texts = only != "images"
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
                parts = [pool.submit(self._read, rows[cut : cut + ROWS_PER_TASK], number) for cut in cuts]
                waiting.append(desk.submit(self._assemble, parts, number, index))
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

    def _read(self, rows: np.ndarray[Any, Any], epoch: int) -> list[_Item | Rejected]:
        """Read and decode a few rows; runs on worker threads."""
        fields = {name for name, wanted in (("images", self._decodes), ("captions", self.texts)) if wanted}
        return [self._item(sample, epoch) for sample in self.dataset.take(rows, fields)]

    def _item(self, sample: Sample, epoch: int) -> _Item | Rejected:
        text = image = None
        if self.texts:
            if not sample.captions:
                return Rejected(sample.id, "caption missing", "the sample has no caption")
            text = sample.captions[self._draw(epoch, sample.id, len(sample.captions))]
        if self._decodes:
            try:
                image = self.processor.decode_image(image_source(sample))
            except BadImage as error:
                return Rejected(sample.id, error.reason, error.detail)
        elif self.images and self.image_features is not None:
            image = self.image_features.get(sample.id)
            if image is None:
                return Rejected(sample.id, "image feature missing", "no feature was given for this id")
        return _Item(sample.id, image, text)

    def _draw(self, epoch: int, id: str, count: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}\0{epoch}\0{id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % count

    def _assemble(
        self, parts: list[Future[list[_Item | Rejected]]], epoch: int, index: int
    ) -> tuple[Batch, list[Rejected]]:
        found = [entry for part in parts for entry in part.result()]
        items = [entry for entry in found if isinstance(entry, _Item)]
        rejected = [entry for entry in found if isinstance(entry, Rejected)]
        if not items:
            return Batch(ids=[]), rejected
        ids = [item.id for item in items]
        images = [item.image for item in items] if self._decodes else None
        texts = [item.text or "" for item in items] if self.texts else None
        options: dict[str, Any] = {}
        if self.augment and images is not None:
            seed = np.random.SeedSequence([self.seed, epoch, index, self.rank]).generate_state(1, np.uint64)[0]
            options = {"augment": True, "generator": torch.Generator().manual_seed(int(seed >> 1))}
        batch = self.processor.collate(ids, images, texts, **options)
        if self.images and self.image_features is not None:
            batch.image_features = torch.from_numpy(np.stack([item.image for item in items]).astype(np.float32))
        return batch, rejected

    def _finish(self, future: Future[tuple[Batch, list[Rejected]]]) -> Batch:
        batch, rejected = future.result()
        for row in rejected:
            if row.id not in self._rejected_ids:
                self._rejected_ids.add(row.id)
                self.rejected.append(row)
        return batch
