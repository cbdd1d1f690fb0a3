"""k-NN against a loop, and the linear probe against gradients, closed properties and another solver."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from diptych.evaluation.metrics import neighbours
from diptych.evaluation.metrics.neighbours import knn_classify
from diptych.evaluation.metrics.probe import STRENGTHS, fit_linear_probe, linear_probe
from diptych.types import InputError


def clouds(
    seed: int, samples: int, classes: int = 4, width: int = 12, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, width))
    labels = rng.integers(classes, size=samples)
    return (centres[labels] + spread * rng.standard_normal((samples, width))).astype(np.float32), labels


def knn_by_loop(train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float) -> np.ndarray:
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    scores = np.zeros((len(test), labels.max() + 1))
    for i, cosines in enumerate(unit(test) @ unit(train).T):
        for j in sorted(range(len(train)), key=lambda j: -cosines[j])[:k]:  # stable: of equal ones the earlier
            scores[i, labels[j]] += np.exp(cosines[j] / temperature)
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (500, 0.07)])
def test_neighbours_against_a_loop(k: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    (train, labels), (test, truth) = clouds(0, 90), clouds(1, 40)
    slow = knn_by_loop(train, labels, test, k, temperature)
    np.testing.assert_allclose(knn_classify(train, labels, test, k, temperature), slow, rtol=1e-4)
    monkeypatch.setattr(neighbours, "_TESTS_AT_ONCE", 7)
    monkeypatch.setattr(neighbours, "_TRAIN_AT_ONCE", 11)
    np.testing.assert_allclose(knn_classify(train, labels, test, k, temperature), slow, rtol=1e-4)
    assert k > 90 or np.mean(slow.argmax(axis=1) == truth) > 0.7


def test_of_equal_neighbours_the_earlier_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = np.tile(np.eye(2)[:1], (9, 1)), np.array([0, 1, 2, 0, 1, 2, 2, 2, 2])
    assert knn_classify(train, labels, train[:1], k=4)[0] == pytest.approx([0.5, 0.25, 0.25])
    monkeypatch.setattr(neighbours, "_TRAIN_AT_ONCE", 2)
    assert knn_classify(train, labels, train[:1], k=4)[0] == pytest.approx([0.5, 0.25, 0.25])


def test_classes_length_and_small_temperatures() -> None:
    train, labels = np.array([[1.0, 0], [0, 5], [0, 0]]), np.array([0, 1, 1])
    scores = knn_classify(train, labels, np.array([[3.0, 0.1]]), k=2, temperature=1e-4, classes=4)
    assert scores.shape == (1, 4) and scores[0].tolist() == [1, 0, 0, 0]


def test_neighbours_hold_no_matrix_of_all_pairs() -> None:
    (train, labels), (test, _) = clouds(0, 12_000, width=16), clouds(1, 3000, width=16)
    tracemalloc.start()
    knn_classify(train, labels, test)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70e6  # all pairs in float32 would be 144 MB, and sorting them as much again


def test_the_probe_is_the_minimum() -> None:
    """Another solver, in another framework, on the loss as the docstring writes it."""
    train, labels = clouds(2, 150, spread=2.0)
    probe = fit_linear_probe(train, labels, l2=0.03)
    rows = torch.tensor((train - train.mean(0, dtype=np.float64)) / train.std(0, dtype=np.float64))
    weights, bias = torch.zeros(12, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for part in (weights, bias):
        part.requires_grad_(True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        fit = torch.nn.functional.cross_entropy(rows @ weights + bias, torch.tensor(labels))
        loss = fit + 0.03 / 2 * (weights**2).sum()
        loss.backward()
        return loss

    solver.step(closure)
    np.testing.assert_allclose(probe.weights, weights.detach().numpy(), atol=2e-4)
    np.testing.assert_allclose(probe.bias - probe.bias.mean(), (bias - bias.mean()).detach().numpy(), atol=2e-4)


def test_a_strong_penalty_leaves_the_class_frequencies() -> None:
    train, labels = clouds(3, 200)
    logits = fit_linear_probe(train, labels, l2=1e6).scores(train[:1])[0]
    odds = np.exp(logits) / np.exp(logits).sum()
    assert odds == pytest.approx(np.bincount(labels) / 200, abs=1e-3)  # the bias is free


def test_the_strength_is_chosen_on_samples_held_out() -> None:
    noise = np.random.default_rng(0).standard_normal((60, 200)).astype(np.float32)
    labels = np.arange(60) % 2
    few = fit_linear_probe(noise + 0.3 * labels[:, None], labels)
    assert len(few.held_out) == len(STRENGTHS) and few.l2 == STRENGTHS[int(np.argmax(few.held_out))]
    (train, labels), (test, truth) = clouds(4, 600), clouds(5, 400)
    scores = linear_probe(train, labels, test)
    assert scores.shape == (400, 4) and np.mean(scores.argmax(axis=1) == truth) > 0.9
    np.testing.assert_array_equal(scores, linear_probe(train, labels, test))


def test_units_and_constant_features_do_not_matter() -> None:
    (train, labels), (test, _) = clouds(6, 120), clouds(7, 30)
    plain = fit_linear_probe(train, labels, l2=0.01).scores(test)
    scale = np.linspace(0.01, 100, 12)
    constant = np.full((120, 1), 7.0)
    other = fit_linear_probe(np.hstack([train * scale + 5, constant]), labels, l2=0.01)
    moved = other.scores(np.hstack([test * scale + 5, constant[:30]]))
    np.testing.assert_allclose(moved, plain, atol=2e-3)


def test_classes_with_few_samples() -> None:
    train, labels = clouds(8, 6, classes=3)
    scores = linear_probe(train, np.array([0, 1, 2, 0, 1, 2]), train, classes=5)
    assert scores.shape == (6, 5) and np.isfinite(scores).all()  # too few to hold any out: the strongest penalty


@pytest.mark.parametrize(
    ("train", "labels", "test", "words"),
    [
        (np.eye(3), [0, 1], np.eye(3), "expected 3 class numbers"),
        (np.eye(3), [0, 1, -1], np.eye(3), "from 0 to 1, got -1..1"),
        (np.eye(3), [0.0, 1, 0], np.eye(3), "class numbers, got float64"),
        (np.full((3, 3), np.inf), [0, 1, 0], np.eye(3), "train features: row 0 is not finite"),
        (np.eye(3), [0, 1, 0], np.full((1, 3), np.nan), "test features: row 0 is not finite"),
        (np.eye(3), [0, 1, 0], np.eye(4), "3 dimensions to train on against 4"),
        (np.zeros((0, 3)), [], np.eye(3), "train features: expected N x D"),
    ],
)
def test_bad_features_are_named(train: np.ndarray, labels: list, test: np.ndarray, words: str) -> None:
    for classify in (knn_classify, linear_probe):
        with pytest.raises(InputError, match=words):
            classify(train, np.array(labels), test)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="k of 1 or more"):
        knn_classify(np.eye(2), [0, 1], np.eye(2), k=0)
    with pytest.raises(InputError, match="temperature above 0"):
        knn_classify(np.eye(2), [0, 1], np.eye(2), temperature=0)
    with pytest.raises(InputError, match="two classes or more"):
        linear_probe(np.eye(2), [1, 1], np.eye(2))
    with pytest.raises(InputError, match="l2: expected a strength above 0"):
        fit_linear_probe(np.eye(2), [0, 1], l2=0)
