"""The next-token loss in chunks against torch's dense one, in value and gradient."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from diptych.objectives.language import cross_entropy, next_token, next_token_chance


def drawn(rows: int, words: int = 23, width: int = 6, dtype: torch.dtype = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(words, width, generator=generator, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(0, words, (rows,), generator=generator)


@pytest.mark.parametrize(("rows", "chunk"), [(8, 8), (8, 4), (9, 4), (3, 100), (1, 1)])
def test_value_and_gradient_are_those_of_the_dense_loss(rows: int, chunk: int) -> None:
    hidden, weight, targets = drawn(rows)
    loss, dense = cross_entropy(hidden, weight, targets, chunk=chunk), F.cross_entropy(hidden @ weight.t(), targets)
    torch.testing.assert_close(loss, dense, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(loss * 3, [hidden, weight])
    for a, b in zip(ours, torch.autograd.grad(dense * 3, [hidden, weight])):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(hidden, weight, targets, chunk=chunk), dense, rtol=1e-6, atol=1e-6)


def test_the_gradient_is_the_slope() -> None:
    """Central differences in float64."""
    hidden, weight, targets = drawn(5, dtype=torch.float64)
    found = torch.autograd.grad(cross_entropy(hidden, weight, targets, chunk=2), [hidden, weight])
    step = 1e-6
    for tensor, gradient in zip((hidden, weight), found):
        for place in range(0, tensor.numel(), 7):
            values = []
            for sign in (1, -1):
                moved = tensor.detach().clone()
                moved.view(-1)[place] += sign * step
                inputs = (moved, weight.detach()) if tensor is hidden else (hidden.detach(), moved)
                values.append(cross_entropy(*inputs, targets, chunk=2).item())
            assert gradient.reshape(-1)[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_only_what_learns_gets_a_gradient() -> None:
    hidden, weight, targets = drawn(7)
    expected = torch.autograd.grad(F.cross_entropy(hidden @ weight.t(), targets), [hidden, weight])
    cross_entropy(hidden, weight.detach(), targets, chunk=3).backward()
    torch.testing.assert_close(hidden.grad, expected[0])
    cross_entropy(hidden.detach(), weight, targets, chunk=3).backward()
    torch.testing.assert_close(weight.grad, expected[1])


def test_without_a_row_there_is_no_loss_and_no_gradient() -> None:
    hidden, weight, targets = drawn(4)
    loss = cross_entropy(hidden[:0], weight, targets[:0])
    loss.backward()
    assert loss.item() == 0 and not hidden.grad.any() and not weight.grad.any()
    tokens = torch.zeros(2, 3, dtype=torch.long)
    nothing = next_token(torch.randn(2, 3, 6), weight.detach(), tokens, torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.item() == 0


def test_in_half_precision_the_softmax_is_not() -> None:
    hidden, weight, targets = drawn(64, words=500, width=32)
    dense = F.cross_entropy(hidden @ weight.t(), targets)
    expected = torch.autograd.grad(dense, [hidden, weight])
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(hidden, weight, targets, chunk=20)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dense, rtol=5e-3, atol=0)
    for a, b in zip(torch.autograd.grad(loss, [hidden, weight]), expected):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_in_half_precision_the_weight_of_a_loss_is_not_rounded() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 16).bfloat16(), torch.randn(30, 16).bfloat16()
    targets = torch.randint(30, (64,))
    sums = []
    for times in (1, 1003):  # the nearest numbers in bfloat16 are 1000 and 1004
        own = hidden.clone().requires_grad_()
        (times * cross_entropy(own, weight, targets, chunk=16)).backward()
        assert own.grad is not None
        sums.append(float(own.grad.double().abs().sum()))
    assert sums[1] / sums[0] == pytest.approx(1003, rel=3e-4)


def test_a_token_is_predicted_from_what_stands_before_it() -> None:
    """Two words, logits (x, -x): the loss of a state x is ln(1 + exp(-2x)) for word 0."""
    hidden = torch.tensor([[[0.5], [2.0], [9.0]]])
    weight = torch.tensor([[1.0], [-1.0]])
    tokens = torch.tensor([[1, 0, 1]])
    everything = next_token(hidden, weight, tokens, torch.tensor([[True, True, True]]))
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(4.0))) / 2
    assert everything.item() == pytest.approx(expected, rel=1e-6)
    last = next_token(hidden, weight, tokens, torch.tensor([[True, False, True]]))
    assert last.item() == pytest.approx(math.log1p(math.exp(4.0)), rel=1e-6)
    blank = next_token(torch.zeros(1, 3, 1), weight, tokens, torch.ones(1, 3, dtype=torch.bool))
    assert blank.item() == pytest.approx(next_token_chance(2), rel=1e-6)


def test_gradients_of_parts_of_equally_many_targets_add_up() -> None:
    """Accumulated over micro-batches, weighted by their samples, as the loop does."""
    hidden, weight, targets = drawn(8)
    whole = torch.autograd.grad(cross_entropy(hidden, weight, targets), [hidden, weight])
    for part in (slice(0, 4), slice(4, 8)):
        (cross_entropy(hidden[part], weight, targets[part]) / 2).backward()
    torch.testing.assert_close(hidden.grad, whole[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weight.grad, whole[1], rtol=1e-5, atol=1e-7)
