"""Linear probe: multinomial logistic regression on frozen features, the usual measure of a representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from diptych.evaluation.metrics.features import checked_features, checked_labels
from diptych.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Features = NDArray[np.floating[Any]]

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # of L2, the strongest first
HELD_OUT = 0.2  # of the training samples, to choose the strength on
STEPS = 1000  # of L-BFGS, at most


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        mean, scale: D; features are standardised with them, as seen in training.
        weights: D x K, of standardised features.
        bias: K.
        l2: the chosen strength.
        held_out: accuracy on the held-out part for each of `STRENGTHS`; empty if the strength was given.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    l2: float
    held_out: tuple[float, ...] = ()

    def scores(self, features: Features) -> Floats:
        """M x K logits."""
        rows = checked_features("test", features)
        if rows.shape[1] != len(self.mean):
            raise InputError(f"features: {len(self.mean)} dimensions to train on against {rows.shape[1]} to test on")
        result: Floats = _standard(rows, self.mean, self.scale) @ self.weights + self.bias
        return result


def linear_probe(
    train: Features, labels: ArrayLike, test: Features, *, classes: int | None = None, seed: int = 0
) -> Floats:
    """M x K logits of test features by a probe that was fitted on the training features: see `fit_linear_probe`."""
    return fit_linear_probe(train, labels, classes=classes, seed=seed).scores(test)


def fit_linear_probe(
    train: Features,
    labels: ArrayLike,
    *,
    l2: float | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> LinearProbe:
    """Multinomial logistic regression by L-BFGS, as in Radford et al. 2021 (CLIP), appendix A.3.

    It minimises mean cross-entropy + l2 / 2 |W|^2 over standardised features; the bias is free. The strength is the one
    of `STRENGTHS` with the best accuracy on a fifth of every class, held out; of equal ones the strongest. The
    probe is then fitted on all of the training samples.

    Deviation: eight strengths a factor of 10 apart, not a search over 96.

    Args:
        train: N x D features.
        labels: N class numbers from 0.
        l2: a strength above 0; None chooses.
        classes: K; by default the largest label and 1.
        seed: of the held-out part.

    Raises:
        InputError: shapes do not fit, a feature is not finite, there are fewer than two classes, or l2 is not above 0.
    """
    rows = checked_features("train", train)
    numbers, count = checked_labels(labels, len(rows), classes)
    if len(np.unique(numbers)) < 2:
        raise InputError("labels: expected two classes or more to train a probe on")
    if l2 is not None and not l2 > 0:
        raise InputError(f"l2: expected a strength above 0, got {l2}")
    held_out: tuple[float, ...] = ()
    if l2 is None:
        aside = _held_out(numbers, np.random.default_rng(seed))
        held_out = _accuracies(rows[~aside], numbers[~aside], rows[aside], numbers[aside], count)
        l2 = STRENGTHS[int(np.argmax(held_out))] if held_out else STRENGTHS[0]
    mean, scale = _moments(rows)
    weights, bias = _solve(_standard(rows, mean, scale), numbers, count, l2, None)
    return LinearProbe(mean, scale, weights, bias, l2, held_out)


def _held_out(labels: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    """About a fifth of the samples of every class that has five or more; at least one is always left to train on."""
    aside = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        aside[members[: int(len(members) * HELD_OUT)]] = True
    return aside


def _accuracies(
    rows: Features, labels: Ints, other_rows: Features, other_labels: Ints, count: int
) -> tuple[float, ...]:
    """Held-out accuracy for each strength; each solution starts from that of the stronger one."""
    if not len(other_rows):
        return ()
    mean, scale = _moments(rows)
    rows, other_rows = _standard(rows, mean, scale), _standard(other_rows, mean, scale)
    start, accuracies = None, []
    for strength in STRENGTHS:
        start = _solve(rows, labels, count, strength, start)
        guesses = (other_rows @ start[0] + start[1]).argmax(axis=1)
        accuracies.append(float(np.mean(guesses == other_labels)))
    return tuple(accuracies)


def _moments(rows: Features) -> tuple[Floats, Floats]:
    mean, scale = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    return mean, np.where(scale > 1e-8 * np.maximum(np.abs(mean), 1e-30), scale, 1.0)  # a constant feature stays 0


def _standard(rows: Features, mean: Floats, scale: Floats) -> Floats:
    result: Floats = (rows - mean) / scale
    return result


def _solve(
    rows: Floats, labels: Ints, count: int, l2: float, start: tuple[Floats, Floats] | None
) -> tuple[Floats, Floats]:
    samples, width = rows.shape
    every = np.arange(samples)

    def loss(flat: Floats) -> tuple[float, Floats]:
        table = flat.reshape(width + 1, count)
        weights = table[:-1]
        logits = rows @ weights + table[-1]
        norm = logsumexp(logits, axis=1)
        value = float((norm - logits[every, labels]).mean() + l2 / 2 * np.sum(weights**2))
        excess = np.exp(logits - norm[:, None])
        excess[every, labels] -= 1
        slope = np.vstack([rows.T @ excess / samples + l2 * weights, excess.mean(axis=0, keepdims=True)])
        return value, slope.ravel()

    first = np.zeros((width + 1) * count) if start is None else np.vstack(start).ravel()
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "gtol": 1e-6, "ftol": 1e-12})
    table = found.x.reshape(width + 1, count)
    return table[:-1], table[-1]
