"""Captions judged by the embeddings of a dual encoder, with and without references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics.retrieval import ranks_of_embeddings
from diptych.types import InputError

Floats = NDArray[np.float64]
Matrix = NDArray[np.floating[Any]]

WEIGHT = 2.5  # Hessel et al. stretch cosines, which seldom exceed 0.4, to about [0, 1]


def clip_score(images: Matrix, texts: Matrix) -> Floats:
    """CLIPScore of each caption (Hessel et al. 2021, eq. 1): 2.5 max(cos(image, caption), 0).

    Args:
        images: N x D embeddings, of any length but zero.
        texts: N x D embeddings of the captions, row by row.

    Returns:
        N numbers in [0, 2.5].

    Raises:
        InputError: shapes do not fit, or an embedding is zero or not finite.
    """
    images, texts = _unit(images, "images"), _unit(texts, "texts")
    if images.shape != texts.shape:
        raise InputError(f"texts: expected the shape of images, {images.shape}, got {texts.shape}")
    score: Floats = np.maximum(WEIGHT * np.einsum("nd,nd->n", images, texts), 0.0)
    return score


def ref_clip_score(images: Matrix, texts: Matrix, references: Sequence[Matrix]) -> Floats:
    """RefCLIPScore of each caption (Hessel et al. 2021, eq. 2): the harmonic mean of its CLIPScore and
    max(0, the best cosine of the caption with a reference).

    Args:
        references: N arrays, R x D, R references of each picture (1 or more).

    Returns:
        N numbers in [0, 1.43]; 0 where either part is 0. See `clip_score` for the rest.
    """
    score = clip_score(images, texts)
    if len(references) != len(score):
        raise InputError(f"references: expected {len(score)} arrays, one of each picture, got {len(references)}")
    counts = np.array([len(rows) for rows in references], dtype=np.int64)
    if not counts.all():
        raise InputError(f"references: expected one or more of each picture, got none at position {counts.argmin()}")
    if not len(score):
        return score
    flat = _unit(np.concatenate([np.asarray(rows) for rows in references]), "references")
    cosines = np.einsum("rd,rd->r", flat, np.repeat(_unit(texts, "texts"), counts, axis=0))
    best = np.maximum(np.maximum.reduceat(cosines, np.cumsum(counts) - counts), 0.0)
    both = score + best
    return np.divide(2 * score * best, both, out=np.zeros_like(score), where=(score > 0) & (best > 0))


def caption_retrieves_image(images: Matrix, texts: Matrix, groups: ArrayLike | None = None) -> Floats:
    """Whether each caption finds its own picture first among all N pictures; 1 - mean is the generic caption rate.

    A picture that another one ties with counts for its share (see `metrics.retrieval`). Two captions with the same
    words still have to find two pictures: that is what makes a generic caption fail.

    Args:
        images: N x D embeddings.
        texts: M x D embeddings of captions.
        groups: M picture numbers in [0, N), whose caption each text is; by default text i is that of picture i.

    Returns:
        M probabilities, 0 or 1 unless there are ties. By chance: 1 / N.

    Raises:
        InputError: shapes do not fit, a picture has no text, or an embedding is zero or not finite.
    """
    images, texts = _unit(images, "images"), _unit(texts, "texts")
    owner = np.arange(len(texts)) if groups is None else groups
    return ranks_of_embeddings(images, texts, owner).t2i.hit(1)


def _unit(matrix: Matrix, name: str) -> Floats:
    """Rows of length 1, in double precision."""
    rows: Floats = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError(f"{name}: expected N x D, got shape {rows.shape}")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if bad.size:
        raise InputError(f"{name}: row {bad[0]} is zero or not finite ({bad.size} such rows)")
    unit: Floats = rows / length
    return unit
