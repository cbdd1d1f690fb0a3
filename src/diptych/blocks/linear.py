"""A linear layer that reads its weights faster where it has few rows, as in writing a text token by token."""

import torch
from torch import Tensor, nn

FEW = 4  # rows up to which the other order was faster: `python benchmarks/few_rows.py`


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, [*B, D] -> [*B, V], with W [V, D].

    With few rows the time goes into reading W once. On a processor, in float32, the library behind PyTorch is two to
    seven times as fast there in the order W x^T, but for a single row, which is therefore computed twice. The sums are
    taken in another order, so that the last bits may differ. Gradients are not taken this way, nor anything under
    autocast.
    """
    few = 0 < x.numel() // x.shape[-1] <= FEW and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if not few or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    count = len(rows)
    columns = (torch.cat([rows, rows]) if count == 1 else rows).t()
    y = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return y[:, :count].t().reshape(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`: the same names, weights and start."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
