"""Pictures and texts to vectors: decoding on threads beside the model, bfloat16 and channels-last where they pay."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from diptych.capabilities import EncodesImages, EncodesTexts, HasFrozenImageTower, HasFrozenTextTower
from diptych.data.cache import FeatureCache
from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, read_bytes
from diptych.machine import Precision, best_device, uses_bf16
from diptych.tasks.reading import Pictures, Progress, Read, read_pictures, reading_threads
from diptych.tasks.running import computing, ready
from diptych.types import InputError, Rejected, Sample


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
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
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
    with ready(model, device) as place:
        for read in read_pictures(images, model.processor.decode_image, batch_size):
            yield _embed(model, encode, read, place, precision)


def _embed(
    model: Any, encode: Callable[..., torch.Tensor], read: Read, place: torch.device, precision: Precision
) -> EmbeddedBatch:
    if not read.positions:
        return EmbeddedBatch([], np.empty((0, 0), np.float32), read.rejected)
    distinct = {id(picture): i for i, picture in reversed(list(enumerate(read.pictures)))}  # id -> where it is first
    first = sorted(distinct.values())
    names, pictures = [str(read.positions[i]) for i in first], [read.pictures[i] for i in first]
    batch = model.processor.collate(names, pictures, None)
    with computing(place, precision):
        rows = encode(batch.pixels.to(place, non_blocking=True)).float().cpu().numpy()
    if len(first) < len(read.pictures):
        rows = rows[np.searchsorted(first, [distinct[id(picture)] for picture in read.pictures])]
    return EmbeddedBatch(read.positions, rows, read.rejected)


def _stacked(parts: list[Float[np.ndarray, "_ _"]]) -> Float[np.ndarray, "N D"]:
    """Rows in one array; parts without rows do not know how wide they are."""
    return np.concatenate([part for part in parts if len(part)] or [np.empty((0, 0), np.float32)])


def _unit_rows(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    # encoders give unit rows already; this removes what is left of bfloat16's rounding, and a row of zeros stays one
    norms = np.linalg.norm(rows, axis=1, keepdims=True) if rows.size else np.ones((len(rows), 1), np.float32)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


# ---------------------------------------------------------------- the cache of features


def _tower_key(model: HasFrozenImageTower, device: str, precision: Precision) -> str:
    kind = "bf16" if uses_bf16(best_device(device), precision) else "fp32"
    return f"{model.image_tower_fingerprint()}-{model.processor.image_fingerprint()}-{kind}"


def _contents(dataset: Dataset) -> list[str]:
    """A hash of each sample's encoded picture; the id where there is none to read, which is found out when decoding."""

    def hashes(start: int) -> list[str]:
        samples = dataset.take(range(start, min(start + 64, len(dataset))), fields=("images",))
        return [_content(sample) for sample in samples]

    with ThreadPoolExecutor(reading_threads()) as pool:
        return [content for part in pool.map(hashes, range(0, len(dataset), 64)) for content in part]


def _content(sample: Sample) -> str:
    try:
        source = image_source(sample)
        data = source if isinstance(source, bytes) else read_bytes(source)
    except BadImage:
        return f"unreadable {sample.id}"
    return hashlib.blake2b(data, digest_size=16).hexdigest()
