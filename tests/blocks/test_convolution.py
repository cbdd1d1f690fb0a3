"""Folding must change nothing but the time; padding must be TensorFlow's."""

import copy

import pytest
import torch
import torch.nn.functional as F

from diptych.blocks.convolution import ConvNorm

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def conv_norm(**options: object) -> ConvNorm:
    """A step with norm weights and statistics away from their start."""
    torch.manual_seed(0)
    step = ConvNorm(6, 12, 3, groups=3, activation="relu6", **options).eval()
    with torch.no_grad():
        for tensor in (step.norm.weight, step.norm.bias, step.norm.running_mean, step.norm.running_var):
            tensor.copy_(0.5 + torch.rand(12))
    return step


@pytest.mark.parametrize("same", [False, True])
def test_folded_equals_unfolded(same: bool) -> None:
    step, x = conv_norm(stride=2, same=same), torch.randn(2, 6, 9, 10)
    plain = step(x)
    folded = step.requires_grad_(False)(x)
    assert step._folded is not None and plain.std() > 0.1
    torch.testing.assert_close(folded, plain, **CLOSE)


def test_folding_leaves_no_trace_and_passes_gradients_through() -> None:
    step, x = conv_norm(), torch.randn(2, 6, 8, 8, requires_grad=True)
    before = {name: value.clone() for name, value in step.state_dict().items()}
    (expected,) = torch.autograd.grad(step(x).sum(), x)
    (gradient,) = torch.autograd.grad(step.requires_grad_(False)(x).sum(), x)
    torch.testing.assert_close(gradient, expected, **CLOSE)
    assert list(step.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())


def test_fold_follows_every_change_of_the_weights() -> None:
    step, x = conv_norm().requires_grad_(False), torch.randn(2, 6, 8, 8)
    first = step(x)
    other = copy.deepcopy(step)
    with torch.no_grad():
        other.norm.running_mean.add_(1)
    assert not torch.allclose(other(x), first)
    step.load_state_dict(other.state_dict())
    assert torch.equal(step(x), other(x))
    step.double()
    assert step(x.double()).dtype == torch.float64
    step.conv.weight = torch.nn.Parameter(torch.zeros(12, 2, 3, 3).double(), requires_grad=False)
    assert step(x.double())[:, :, 2:-2, 2:-2].std(dim=(2, 3)).max() == 0


def test_training_uses_the_batch() -> None:
    step = conv_norm().requires_grad_(False).train()
    before = step.norm.running_mean.clone()
    step(torch.randn(4, 6, 8, 8))
    assert not torch.equal(step.norm.running_mean, before)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 11), (7, 4)])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflows(size: tuple[int, int], kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    step = ConvNorm(2, 4, kernel, stride=stride, same=True).eval()
    x, sides = torch.randn(1, 2, *size), []
    for side in reversed(size):  # from TensorFlow's documentation of "SAME"
        total = max(kernel - stride if side % stride == 0 else kernel - side % stride, 0)
        sides += [total // 2, total - total // 2]
    expected = F.conv2d(F.pad(x, sides), step.conv.weight, stride=stride)
    assert expected.shape[2:] == tuple(-(-side // stride) for side in size)
    torch.testing.assert_close(step(x), expected / (1 + 1e-5) ** 0.5, **CLOSE)
