"""Pictures and texts to vectors: decoding on threads beside the model, bfloat16 and channels-last where they pay."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from diptych.data.cache import FeatureCache
from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, read_bytes
from diptych.machine import Precision, best_device, uses_bf16
from diptych.tasks.running import computing, ready
from diptych.types import (
    EncodedImage,
    EncodesImages,
    EncodesTexts,
    HasFrozenImageTower,
    HasFrozenTextTower,
    InputError,
    Rejected,
    Sample,
)

Pictures = Sequence[Any] | np.ndarray | Dataset
Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

_AHEAD = 3  # batches that are decoded before the model asks for them
_PICTURES_A_TASK = 8


class EmbeddedBatch(NamedTuple):
    """Some pictures of a stream: positions and vectors of those that could be read, and what ails the others."""

    positions: list[int]
    vectors: Float[np.ndarray, "B D"]
    rejected: dict[int, Rejected]


class Embedded(NamedTuple):
    """`vectors[i]` belongs to picture `kept[i]`; pictures that could not be read are in `rejected`."""

    vectors: Float[np.ndarray, "N D"]
    kept: list[int]
    rejected: list[Rejected]


def embed_images(
    model: EncodesImages,
    images: Pictures,
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float[np.ndarray, "N D"]:
    """One L2-normalised float32 row for each picture, in order.

    Args:
        images: paths, PIL images, arrays, encoded bytes or `EncodedImage`s, mixed as you like, or a dataset (the first
            picture of each sample).
        batch_size: pictures that the model sees at once.
        device: "auto", "cpu", "cuda", ...; the model stays there.
        precision: "auto" is bfloat16 where the machine computes it natively, else float32.
        progress: called after each batch.

    Raises:
        InputError: a picture cannot be read; the sentence names it. `embed_readable_images` goes on without it.
    """
    parts = []
    for batch in stream_images(model, images, batch_size=batch_size, device=device, precision=precision):
        if batch.rejected:
            bad = next(iter(batch.rejected.values()))
            raise InputError(f"{bad.id}: expected a picture: {bad.reason}{bad.detail and ': ' + bad.detail}")
        parts.append(batch.vectors)
        if progress is not None:
            progress(batch.positions[-1] + 1, len(images))
    return _stacked(parts)


def embed_readable_images(
    model: EncodesImages,
    images: Pictures,
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Embedded:
    """`embed_images` that leaves out pictures that cannot be read, and says which and why."""
    found = Embedded(np.empty((0, 0), np.float32), [], [])
    parts = []
    for batch in stream_images(model, images, batch_size=batch_size, device=device, precision=precision):
        parts.append(batch.vectors)
        found.kept.extend(batch.positions)
        found.rejected.extend(batch.rejected.values())
        if progress is not None:
            progress(len(found.kept) + len(found.rejected), len(images))
    return found._replace(vectors=_stacked(parts))


def stream_images(
    model: EncodesImages,
    images: Pictures,
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
) -> Iterator[EmbeddedBatch]:
    """`embed_readable_images` batch by batch, in order, for callers that keep what is done: indexes, long runs."""
    for batch in _stream(model, model.encode_image, images, batch_size, device, precision):
        yield batch._replace(vectors=_unit_rows(batch.vectors))


def embed_texts(
    model: EncodesTexts,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float[np.ndarray, "N D"]:
    """One L2-normalised float32 row for each text, in order.

    Texts of like length share a batch, so that little of it is padding. Other arguments are those of `embed_images`.
    """
    return _unit_rows(_text_rows(model, model.encode_text, texts, batch_size, device, precision, progress))


def text_features(
    model: HasFrozenTextTower,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float[np.ndarray, "N D"]:
    """One float32 row of the frozen text tower for each text, before anything trained; as `embed_texts` otherwise."""
    return _text_rows(model, model.text_features, texts, batch_size, device, precision, progress)


def _text_rows(
    model: Any,
    encode: Callable[..., torch.Tensor],
    texts: Sequence[str],
    batch_size: int,
    device: str,
    precision: Precision,
    progress: Progress | None,
) -> Float[np.ndarray, "N D"]:
    if isinstance(texts, str):
        raise InputError(f"texts: expected a list of texts, got the text {texts[:40]!r}")
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors: Float[np.ndarray, "N D"] | None = None
    with ready(model, device) as place:
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            batch = model.processor.collate([str(i) for i in some], None, [texts[i] for i in some])
            if batch.tokens is None or batch.token_mask is None:
                raise InputError("model: its processor gives no tokens, so it cannot embed texts")
            with computing(place, precision):
                rows = encode(batch.tokens.to(place), batch.token_mask.to(place)).float().cpu().numpy()
            if vectors is None:
                vectors = np.empty((len(texts), rows.shape[1]), np.float32)
            vectors[some] = rows
            if progress is not None:
                progress(start + len(some), len(texts))
    return np.empty((0, 0), np.float32) if vectors is None else vectors


def image_features(
    model: HasFrozenImageTower,
    dataset: Dataset,
    *,
    cache: bool = True,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
    rejected: list[Rejected] | None = None,
) -> dict[str, Float[np.ndarray, "D"]]:
    """Features of the frozen image tower, before anything trained, for each sample of `dataset` by id (float32, D).

    With `cache` each picture is computed once: features are kept on disk by weights, preprocessing, precision and
    content (and not by id, which two datasets may give to different pictures). Samples whose picture cannot be read
    are left out and, if `rejected` is given, appended to it.
    """
    if len(set(dataset.ids)) != len(dataset):
        raise InputError(f"{dataset.name}: expected ids that differ, to give each sample its features")
    found: dict[str, Any] = {}
    todo, names = list(range(len(dataset))), dataset.ids
    if cache:
        store = FeatureCache(_tower_key(model, device, precision))
        contents = _contents(dataset)
        known, vectors = store.get(contents)
        found = {names[i]: vectors[i] for i in np.flatnonzero(known)}
        todo = np.flatnonzero(~known).tolist()
    if progress is not None:
        progress(len(names) - len(todo), len(names))
    done = len(names) - len(todo)
    for batch in _stream(model, model.image_features, dataset.select(todo), batch_size, device, precision):
        rows = [todo[position] for position in batch.positions]
        if cache and rows:
            store.put([contents[row] for row in rows], batch.vectors)
        found.update((names[row], vector) for row, vector in zip(rows, batch.vectors))
        if rejected is not None:
            rejected.extend(batch.rejected.values())
        done += len(rows) + len(batch.rejected)
        if progress is not None:
            progress(done, len(names))
    return found


# ---------------------------------------------------------------- the stream


def _stream(
    model: EncodesImages | HasFrozenImageTower,
    encode: Callable[..., torch.Tensor],
    images: Pictures,
    batch_size: int,
    device: str,
    precision: Precision,
) -> Iterator[EmbeddedBatch]:
    """Decode on threads, a few batches ahead of the model."""
    if isinstance(images, (str, bytes)) or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise InputError("images: expected a list of pictures (or a dataset), got a single one")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
    pool = ThreadPoolExecutor(_threads(), thread_name_prefix="decode")
    waiting: deque[tuple[int, list[Future[list[Any]]]]] = deque()
    starts = iter(range(0, len(images), batch_size))
    try:
        with ready(model, device) as place:
            while True:
                while len(waiting) <= _AHEAD and (start := next(starts, None)) is not None:
                    stop = min(start + batch_size, len(images))
                    cuts = [(a, min(a + _PICTURES_A_TASK, stop)) for a in range(start, stop, _PICTURES_A_TASK)]
                    waiting.append((start, [pool.submit(_decode, model.processor, images, a, b) for a, b in cuts]))
                if not waiting:
                    return
                start, tasks = waiting.popleft()
                yield _embed(
                    model, encode, start, [picture for task in tasks for picture in task.result()], place, precision
                )
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(processor: Any, images: Pictures, start: int, stop: int) -> list[Any]:
    """Pictures `start` to `stop` at the model's size, or `Rejected`."""
    decoded: list[Any] = []
    samples = images.take(range(start, stop), fields=("images",)) if isinstance(images, Dataset) else []
    for i in range(start, stop):
        source = samples[i - start] if samples else images[i]
        try:
            if samples:
                source = image_source(source)
            elif isinstance(source, EncodedImage):
                source = Path(source.path or "") if source.data is None else source.data
            decoded.append(processor.decode_image(Path(source) if isinstance(source, str) else source))
        except BadImage as error:
            name = samples[i - start].id if samples else _name(images[i], i)
            decoded.append(Rejected(name, error.reason, error.detail))
    return decoded


def _name(source: Any, position: int) -> str:
    path = source.path if isinstance(source, EncodedImage) else source
    return str(path) if isinstance(path, (str, Path)) else f"picture {position}"


def _embed(
    model: Any,
    encode: Callable[..., torch.Tensor],
    start: int,
    decoded: list[Any],
    place: torch.device,
    precision: Precision,
) -> EmbeddedBatch:
    rejected = {start + i: picture for i, picture in enumerate(decoded) if isinstance(picture, Rejected)}
    positions = [start + i for i, picture in enumerate(decoded) if not isinstance(picture, Rejected)]
    if not positions:
        return EmbeddedBatch([], np.empty((0, 0), np.float32), rejected)
    pictures = [decoded[position - start] for position in positions]
    batch = model.processor.collate([str(position) for position in positions], pictures, None)
    with computing(place, precision):
        rows = encode(batch.pixels.to(place, non_blocking=True))
    return EmbeddedBatch(positions, rows.float().cpu().numpy(), rejected)


def _stacked(parts: list[Float[np.ndarray, "_ _"]]) -> Float[np.ndarray, "N D"]:
    """Rows in one array; parts without rows do not know how wide they are."""
    return np.concatenate([part for part in parts if len(part)] or [np.empty((0, 0), np.float32)])


def _unit_rows(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    # encoders give unit rows already; this removes what is left of bfloat16's rounding, and a row of zeros stays one
    norms = np.linalg.norm(rows, axis=1, keepdims=True) if rows.size else np.ones((len(rows), 1), np.float32)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _threads() -> int:
    return min(16, os.cpu_count() or 1)


# ---------------------------------------------------------------- the cache of features


def _tower_key(model: HasFrozenImageTower, device: str, precision: Precision) -> str:
    kind = "bf16" if uses_bf16(best_device(device), precision) else "fp32"
    return f"{model.image_tower_fingerprint()}-{model.processor.image_fingerprint()}-{kind}"


def _contents(dataset: Dataset) -> list[str]:
    """A hash of each sample's encoded picture; the id where there is none to read, which is found out when decoding."""

    def hashes(start: int) -> list[str]:
        samples = dataset.take(range(start, min(start + 64, len(dataset))), fields=("images",))
        return [_content(sample) for sample in samples]

    with ThreadPoolExecutor(_threads()) as pool:
        return [content for part in pool.map(hashes, range(0, len(dataset), 64)) for content in part]


def _content(sample: Sample) -> str:
    try:
        source = image_source(sample)
        data = source if isinstance(source, bytes) else read_bytes(source)
    except BadImage:
        return f"unreadable {sample.id}"
    return hashlib.blake2b(data, digest_size=16).hexdigest()
