"""The linear layer for few rows is PyTorch's but for rounding."""

import pytest
import torch
from torch import nn

from diptych.blocks.linear import FEW, Linear


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2,), (FEW,), (FEW, 1), (2, 2), (FEW + 1,), (3, 5), (0,), (0, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_gives_what_torch_gives(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours = Linear(33, 47, bias=bias, dtype=dtype)
    theirs = nn.Linear(33, 47, bias=bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*shape, 33, dtype=dtype)
    with torch.no_grad():
        got, expected = ours(x), theirs(x)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    torch.testing.assert_close(got, expected)


def test_rows_of_any_layout() -> None:
    torch.manual_seed(0)
    layer = Linear(8, 5)
    wide = torch.randn(3, 2, 16)
    with torch.no_grad():
        for x in (wide[:2, :, ::2], wide[0, :, :8].expand(2, 2, 8), wide.transpose(0, 1)[:, :2, 8:]):
            torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    layer, x = Linear(8, 5), torch.randn(2, 8, requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    y = nn.functional.linear(x.detach(), layer.weight.detach(), layer.bias.detach())
    torch.testing.assert_close(x.grad, 2 * y @ layer.weight.detach())
    torch.testing.assert_close(layer.weight.grad, 2 * y.t() @ x.detach())


def test_under_autocast_it_is_torch() -> None:
    layer, x = Linear(8, 5), torch.randn(1, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
