"""Lay pairs of a joint space out in the plane so that neighbours stay neighbours.

van der Maaten and Hinton, "Visualizing Data using t-SNE" (2008), equation 5.

Deviation: the neighbour weights are uniform over the k nearest pictures and the k nearest texts of each point, instead
of a Gaussian fitted to a perplexity: both kinds then count the same, whatever the gap between them. The start is the
first two principal components, so nothing is random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]

NEIGHBOURS = 6
STEPS = 300
STEP_SIZE = 40.0
EXAGGERATION, EXAGGERATED_STEPS = 4.0, 75  # attraction is stronger at first, so that clusters find together


def pair_layout(images: Points, texts: Points) -> tuple[Points, Points, float]:
    """Places in [0, 1] x [0, 1] for N pictures and their N texts, and the gap between the two kinds.

    Pictures and texts lie in two separate cones of the joint space (Liang et al., "Mind the Gap", 2022). The gap is the
    distance of their centres; each kind is centred before the layout, which would show nothing but the gap otherwise.

    Args:
        images, texts: N x D with L2-normalised rows, pair by pair. O(N^2) time and memory; N up to about 500.
    """
    gap = float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)))
    points = np.concatenate([_centred(images), _centred(texts)])
    places = _spread(_embed(points, len(images)))
    return places[: len(images)], places[len(images) :], gap


def push_apart(places: Points, sizes: Points, steps: int = 80) -> Points:
    """The places, moved as little as needed so that squares of the given sizes around them do not overlap.

    It stops after `steps` rounds, so that a crowded page keeps some overlaps. Deterministic; O(N^2) each round.
    """
    moved = places.astype(np.float32)
    wanted = (sizes[:, None] + sizes[None]) / 2
    upper = np.triu(np.ones(wanted.shape, dtype=bool), 1)
    for _ in range(steps):
        delta = moved[:, None] - moved[None]
        axis = np.abs(delta).argmax(axis=2)
        offset = np.take_along_axis(delta, axis[..., None], axis=2)[..., 0]
        first, second = np.nonzero(upper & (np.abs(offset) < wanted))
        if first.size == 0:
            break
        along, gap = axis[first, second], offset[first, second]
        push = np.where(gap < 0, -0.3, 0.3) * (wanted[first, second] - np.abs(gap))
        np.add.at(moved, (first, along), push)
        np.add.at(moved, (second, along), -push)
    return moved


def _embed(points: Points, images: int) -> Points:
    attraction = _neighbour_weights(points, images)
    left, strength, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    places = np.zeros((len(points), 2), dtype=np.float32)
    places[:, : min(2, len(strength))] = left[:, :2]
    places *= 1e-2 / np.maximum(places.std(axis=0), 1e-9)
    speed = np.zeros_like(places)
    for step in range(STEPS):
        early = step < EXAGGERATED_STEPS
        square = (places**2).sum(axis=1)
        near = 1 / (1 + np.maximum(square[:, None] + square - 2 * places @ places.T, 0))
        np.fill_diagonal(near, 0)
        force = ((EXAGGERATION if early else 1.0) * attraction - near / max(float(near.sum()), 1e-9)) * near
        speed = (0.5 if early else 0.8) * speed - 4 * STEP_SIZE * (force.sum(axis=1)[:, None] * places - force @ places)
        places = places + speed
    return places


def _neighbour_weights(points: Points, images: int) -> Points:
    """Symmetric weights that sum to 1: each point's nearest pictures and nearest texts, all alike."""
    similar = points @ points.T
    np.fill_diagonal(similar, -np.inf)
    weights = np.zeros_like(similar)
    for kind in (slice(0, images), slice(images, None)):
        k = min(NEIGHBOURS, images)
        nearest = np.argpartition(-similar[:, kind], k - 1, axis=1)[:, :k]
        np.put_along_axis(weights[:, kind], nearest, 1.0, axis=1)
    weights = weights + weights.T
    total: Points = weights / weights.sum()
    return total


def _spread(places: Points) -> Points:
    """Into the unit square, a third by value and the rest by order, so that a few outliers do not squeeze the rest."""
    low, high = places.min(axis=0), places.max(axis=0)
    by_value = (places - low) / np.maximum(high - low, 1e-9)
    by_order = places.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") / max(len(places) - 1, 1)
    return np.asarray((by_value + 2 * by_order) / 3, dtype=np.float32)


def _centred(rows: Points) -> Points:
    moved = rows - rows.mean(axis=0)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9), dtype=np.float32)
