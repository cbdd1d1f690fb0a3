"""Pictures into an index: saved as it grows, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diptych.capabilities import EncodesImages
from diptych.data.store import Dataset
from diptych.search.index import VectorIndex
from diptych.search.rows import Value
from diptych.tasks.embed import stream_images
from diptych.tasks.reading import Pictures, Progress
from diptych.tasks.retrieve import picture_ids
from diptych.types import InputError, Rejected

_SAVE_EVERY = 256  # pictures
_WORK_PER_SAVE = 20  # but no sooner than after so many times the time that the last save took
_SPARSE = 0.2  # share of numbers that are not 0, below which an index keeps only those
_FIELDS = ("label", "source", "license", "url", "creator", "split")


@dataclass(frozen=True)
class Built:
    """What `build_index` did: `added` now, `present` before; `index` is None if no picture could be read."""

    index: VectorIndex | None
    added: int
    present: int
    rejected: list[Rejected]


def build_index(
    model: EncodesImages,
    images: Pictures,
    to: str | Path,
    *,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> Built:
    """Embed `images` into the index in the folder `to`. A run that was killed goes on where it last saved.

    Samples of a dataset keep their flat fields (label, source, license, url, creator, split) and their first caption,
    to filter on and to show. Raises `InputError` if `to` holds an index of another model or of other pictures.
    """
    ids = picture_ids(images)
    meta = {"model": model_fingerprint(model), "pictures": _source(images, ids)}
    index = VectorIndex.open(to) if VectorIndex.exists(to) else None
    if index is not None and index.meta != meta:
        what = "another model" if index.meta.get("model") != meta["model"] else "other pictures"
        raise InputError(f"{to}: holds an index of {what}; name another folder, or remove this one")
    todo = [i for i, id in enumerate(ids) if index is None or id not in index]
    some = images.select(todo) if isinstance(images, Dataset) else [images[i] for i in todo]
    rejected: dict[int, Rejected] = {}
    index = embed_into(
        index,
        to,
        model,
        some,
        [ids[i] for i in todo],
        _fields(some),
        meta=meta,
        on_save=rejected.update,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    return Built(index, len(todo) - len(rejected), len(ids) - len(todo), list(rejected.values()))


def embed_into(
    index: VectorIndex | None,
    to: str | Path,
    model: EncodesImages,
    images: Pictures,
    ids: Sequence[str],
    fields: Sequence[Mapping[str, Value]],
    *,
    meta: Mapping[str, str],
    on_save: Callable[[dict[int, Rejected]], None],
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> VectorIndex | None:
    """Embed `images` and add them to `index`, made in the folder `to` where there is none yet; save every few hundred.

    `on_save` gets the pictures that could not be read since it was last called, by position, just before each save, so
    that what it keeps of them and the index go together. An interrupt (Ctrl-C) saves what is done.
    """
    bad: dict[int, Rejected] = {}
    unsaved, saved_at, save_took = 0, time.monotonic(), 0.0

    def save() -> None:
        on_save(dict(bad))
        bad.clear()
        if index is not None:
            index.save()

    try:
        for batch in stream_images(model, images, batch_size=batch_size, device=device):
            bad.update(batch.rejected)
            if batch.positions:
                if index is None:
                    sparse = bool(np.count_nonzero(batch.vectors) < _SPARSE * batch.vectors.size)
                    index = VectorIndex.create(to, batch.vectors.shape[1], sparse=sparse, meta=meta)
                index.add([ids[i] for i in batch.positions], batch.vectors, [fields[i] for i in batch.positions])
            if progress is not None:
                progress(max([*batch.positions, *batch.rejected]) + 1, len(images))
            unsaved += len(batch.positions) + len(batch.rejected)
            if unsaved >= _SAVE_EVERY and time.monotonic() - saved_at >= _WORK_PER_SAVE * save_took:
                start = time.monotonic()
                save()
                unsaved, saved_at = 0, time.monotonic()
                save_took = saved_at - start
    finally:
        save()
    return index


def model_fingerprint(model: Any) -> str:
    """A hash of all that decides a model's vectors: its class, config, processor and weights."""
    digest = hashlib.blake2b(digest_size=16)
    config = getattr(model, "config", None)
    digest.update(f"{type(model).__qualname__} {config!r} {model.processor.fingerprint()}".encode())
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):  # what a module keeps besides weights
            digest.update(f"{name} {tensor!r}".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # channels-last and plain weights are the same weights
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source(images: Pictures, ids: Sequence[str]) -> str:
    if isinstance(images, Dataset):
        return images.fingerprint()
    return hashlib.blake2b("\0".join(ids).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _fields(images: Pictures) -> list[dict[str, Value]]:
    if not isinstance(images, Dataset):
        return [{} for _ in images]
    columns = {name: images.column(name) for name in _FIELDS}
    columns["caption"] = [next(iter(captions or ()), None) for captions in images.column("captions")]
    return [{name: c[i] for name, c in columns.items() if c[i] is not None} for i in range(len(images))]
