"""Fine-tuning by matrices of low rank beside the weights, which stay as they are."""

import re

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from diptych.types import InputError


class LowRank(nn.Module):
    """W + (alpha / r) B A, with A drawn at random and B zero at the start (Hu et al. 2022, LoRA, section 4.1)."""

    def __init__(self, weight: Float[Tensor, "D D2"], rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter(weight.new_empty(rank, inputs))
        self.b = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        self.scale = alpha / rank

    def forward(self, weight: Float[Tensor, "D D2"]) -> Float[Tensor, "D D2"]:
        return weight + self.scale * (self.b @ self.a)


def add(model: nn.Module, rank: int, pattern: str, seed: int = 0, alpha: float | None = None) -> list[str]:
    """Put adapters on the linear layers whose names match; everything else stops training. Returns their names.

    Args:
        rank: r.
        pattern: a regular expression that is searched for in the layers' names.
        seed: of A.
        alpha: as in `LowRank`; 2 r if None.

    Raises `InputError` for a rank below 1, and for a pattern that is none or matches no linear layer.
    """
    if rank < 1:
        raise InputError(f"training.lora: expected a rank of 1 or more, got {rank}")
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise InputError(f"training.lora_on: {pattern!r} is not a regular expression: {error}") from None
    layers = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear) and wanted.search(name)]
    if not layers:
        raise InputError(f"training.lora_on: {pattern!r} matches no linear layer")
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _, layer in layers:
            adapter = LowRank(layer.weight, rank, 2.0 * rank if alpha is None else alpha)
            parametrize.register_parametrization(layer, "weight", adapter)
    return [name for name, _ in layers]


def merge(model: nn.Module) -> None:
    """Take the adapters away and leave the weights that they made."""
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer, "weight") and isinstance(layer.parametrizations.weight[0], LowRank):  # type: ignore[index, union-attr]
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
