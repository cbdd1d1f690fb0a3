"""Convolution, batch norm and activation as one step."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "swish": nn.SiLU}


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, then an activation if one is named.

    In evaluation the batch norm is folded into the convolution on the fly: weights are small beside maps, so that
    this saves a pass over memory and leaves parameters, buffers and state dict as they are.

    Args:
        kernel: odd.
        stride: 1 or 2.
        same: pad as TensorFlow does, so that the output is ceil(input / stride) and an odd rest of the padding stands
            right and below; otherwise `kernel // 2` on every side.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
        same: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.same = same
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        self.norm = nn.BatchNorm2d(outputs, eps=norm_eps)
        self.activation = ACTIVATIONS[activation](inplace=True) if activation else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        if self.training:
            x = self.norm(self._convolve(x, self.conv.weight, None))
        else:
            x = self._convolve(x, *fold_batchnorm(self.conv, self.norm))
        return x if self.activation is None else self.activation(x)

    def _convolve(
        self, x: Float[Tensor, "B C H W"], weight: Float[Tensor, "D C2 K K"], bias: Float[Tensor, "D"] | None
    ) -> Float[Tensor, "B D H2 W2"]:
        kernel, stride, padding = self.conv.kernel_size[0], self.conv.stride[0], self.conv.kernel_size[0] // 2
        if self.same and stride == 2:
            if x.shape[2] % 2 == x.shape[3] % 2 == 0:
                # TensorFlow would pad one row and column less above and left. A kernel with a row and a column of zeros
                # there gives the same without a padded copy of x, which costs a fifth of the whole network's time.
                weight = F.pad(weight, (1, 0, 1, 0))
            else:
                x, padding = _pad_same(x, kernel), 0
        return F.conv2d(x, weight, bias, stride, padding, 1, self.conv.groups)


def fold_batchnorm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals a bias-free `conv` followed by `norm` in evaluation.

    With g, b, m, v the norm's weight, bias, running mean and running variance: w' = w g / sqrt(v + eps),
    b' = b - m g / sqrt(v + eps). The weight comes in channels-last order, which CPUs and GPUs run faster.
    """
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    weight = conv.weight * scale[:, None, None, None]
    return weight.contiguous(memory_format=torch.channels_last), norm.bias - mean * scale


def _pad_same(x: Float[Tensor, "B C H W"], kernel: int) -> Float[Tensor, "B C H2 W2"]:
    """TensorFlow's padding for a stride of 2: as little as gives ceil(side / 2), the odd rest right and below."""
    sides = []
    for side in (x.shape[3], x.shape[2]):
        total = max(kernel - (side % 2 or 2), 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)
