"""Folding must change nothing but the time; padding must be TensorFlow's."""

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
def test_folded_equals_norm_after_convolution(same: bool) -> None:
    step, x = conv_norm(stride=2, same=same), torch.randn(2, 6, 9, 10)
    plain = F.relu6(step.norm(step._convolve(x, step.conv.weight, None)))
    assert plain.std() > 0.1
    torch.testing.assert_close(step(x), plain, **CLOSE)


def test_folded_gives_the_same_gradients() -> None:
    """A network may be tuned with its batch norms in evaluation."""
    step, x = conv_norm(), torch.randn(2, 6, 8, 8, requires_grad=True)
    inputs = [x, *step.parameters()]
    plain = F.relu6(step.norm(step._convolve(x, step.conv.weight, None)))
    expected = torch.autograd.grad(plain.square().sum(), inputs)
    found = torch.autograd.grad(step(x).square().sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_training_uses_the_batch() -> None:
    step, x = conv_norm().train(), torch.randn(4, 6, 8, 8)
    before = step(x[:2])[0]
    mean = step.norm.running_mean.clone()
    assert not torch.allclose(step(x)[0], before, atol=1e-3)
    assert not torch.equal(step.norm.running_mean, mean)


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
