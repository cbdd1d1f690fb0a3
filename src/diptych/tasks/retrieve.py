"""The pictures that fit a text, or that look like a picture."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from diptych.capabilities import DualEncoder
from diptych.data.store import Dataset
from diptych.tasks.embed import embed_images, embed_readable_images, embed_texts
from diptych.tasks.match import match
from diptych.tasks.reading import Pictures, Progress
from diptych.types import InputError


class Hit(NamedTuple):
    """A picture that was found: its id, its cosine with the query, and the flat fields that an index keeps with it.

    The score of a hit that another model put in its place is that model's.
    """

    id: str
    score: float
    fields: dict[str, str | int | float]


@runtime_checkable
class Searchable(Protocol):
    """Answers query vectors with hits, best first: `diptych.search.VectorIndex`."""

    def search(self, vectors: Any, k: int) -> list[list[Hit]]: ...


def embed_queries(model: DualEncoder, queries: Sequence[Any], *, device: str = "auto") -> Float[np.ndarray, "M D"]:
    """One unit row for each query: text where it is a `str`, else a picture (a `Path`, PIL image, array or bytes)."""
    if isinstance(queries, (str, bytes)):
        raise InputError(f"queries: expected a list of queries, got the single one {queries[:40]!r}")
    texts = [i for i, query in enumerate(queries) if isinstance(query, str)]
    pictures = [i for i, query in enumerate(queries) if not isinstance(query, str)]
    rows: dict[int, Any] = {}
    if texts:
        rows.update(zip(texts, embed_texts(model, [queries[i] for i in texts], device=device)))
    if pictures:
        rows.update(zip(pictures, embed_images(model, [queries[i] for i in pictures], device=device)))
    return np.stack([rows[i] for i in range(len(queries))]) if rows else np.empty((0, 0), np.float32)


def retrieve(
    model: DualEncoder,
    queries: Sequence[Any],
    images: Pictures | Searchable,
    k: int = 10,
    *,
    by: Any = None,
    shortlist: int = 50,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[list[Hit]]:
    """For each query the `k` best pictures, best first.

    Args:
        queries: texts (`str`) and pictures (anything else: `Path`, PIL image, array, bytes), mixed as you like.
        images: pictures as `embed_images` takes them, or an index whose vectors this model made. A hit's id is the
            sample's id in a dataset, the path of a picture that is one, else its position in the list.
        by: a model that `match` can ask, which looks at each text with its `shortlist` best pictures and puts these in
            its own order: a fusion model is too slow to look at every pair.

    Pictures that cannot be read are never found. Raises `InputError` for a query picture that cannot be read, and where
    `by` is given with query pictures or an index, which has no pictures to look at.
    """
    if by is not None and (isinstance(images, Searchable) or not all(isinstance(query, str) for query in queries)):
        raise InputError("by: expected texts as queries and pictures to look at, not an index")
    vectors = embed_queries(model, queries, device=device)
    if not len(vectors):
        return []
    if isinstance(images, Searchable):
        return images.search(vectors, k)
    found = embed_readable_images(model, images, batch_size=batch_size, device=device, progress=progress)
    if not found.kept:
        return [[] for _ in queries]
    names = picture_ids(images)
    scores = vectors @ found.vectors.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, : k if by is None else max(k, shortlist)]
    if by is None:
        return [[Hit(names[found.kept[i]], float(row[i]), {}) for i in some] for row, some in zip(scores, best)]
    pairs = [(found.kept[i], query) for query, some in enumerate(best) for i in some]
    looked = match_pairs(by, images, queries, pairs, batch_size=batch_size, device=device, progress=progress)
    answers = []
    for query, some in enumerate(best):
        seen = [(looked[found.kept[i], query], found.kept[i]) for i in some if (found.kept[i], query) in looked]
        seen.sort(key=lambda one: -one[0])
        answers.append([Hit(names[i], score, {}) for score, i in seen[:k]])
    return answers


def match_pairs(
    model: Any, images: Pictures, texts: Sequence[str], pairs: Iterable[tuple[int, int]], **options: Any
) -> dict[tuple[int, int], float]:
    """The score of `match` for each pair (number of a picture, number of a text) whose picture can be read.

    Each picture is decoded once, whatever number of texts it is looked at with.
    """
    of: dict[int, list[int]] = defaultdict(list)
    for picture, text in pairs:
        of[picture].append(text)
    rows = sorted(of)
    chosen = images.select(rows) if isinstance(images, Dataset) else [images[row] for row in rows]
    found = match(model, chosen, [[texts[i] for i in of[row]] for row in rows], **options)
    return {
        (rows[place], text): float(score)
        for place, scores in zip(found.kept, found.scores)
        for text, score in zip(of[rows[place]], scores)
    }


def picture_ids(images: Pictures) -> list[str]:
    """What to call each picture: its sample's id, its path, or its position in the list."""
    if isinstance(images, Dataset):
        return images.ids
    paths = (getattr(image, "path", image) for image in images)
    return [str(path) if isinstance(path, (str, Path)) else str(i) for i, path in enumerate(paths)]
