"""Fine-tuning by matrices of low rank beside the weights, which stay as they are."""

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from diptych.types import InputError


class LowRank(nn.Module):
    """W + scale B A, with A drawn at random and B zero at the start (Hu et al. 2022, LoRA, section 4.1)."""

    def __init__(self, weight: Float[Tensor, "D D2"], rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter(weight.new_empty(rank, inputs))
        self.b = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        self.scale = scale

    def forward(self, weight: Float[Tensor, "D D2"]) -> Float[Tensor, "D D2"]:
        return weight + self.scale * (self.b @ self.a)


class Adapters:
    """Adapters on those linear layers of a model whose names match; everything else stops training.

    What the model itself has frozen gets none: such a part may be left out of the graph, or its features be cached.

    Args:
        rank: r.
        on: a regular expression that is searched for in the layers' names.
        also: one for the names of parameters that train as they are, such as a head that is new to its task; "": none.
        seed: of A.
        scale: of what the matrices make, the paper's alpha / r.

    Raises `InputError` for a rank below 1, and for a pattern that is none or matches nothing that trains.
    """

    def __init__(
        self, model: nn.Module, rank: int, on: str, *, also: str = "", seed: int = 0, scale: float = 2.0
    ) -> None:
        if rank < 1:
            raise InputError(f"training.lora: expected a rank of 1 or more, got {rank}")
        self.model = model
        self.scale = scale
        self._trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        whole = {name for name in self._matching("lora_also", also, self._trained) if also}
        layers = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear)}
        free = [name for name in layers if self._trained[f"{name}.weight"] and f"{name}.weight" not in whole]
        self.names = self._matching("lora_on", on, free)
        """The layers that have an adapter."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self._trained[name] and name in whole)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in self.names:
                adapter = LowRank(layers[name].weight, rank, self.scale)
                parametrize.register_parametrization(layers[name], "weight", adapter)

    @torch.no_grad()
    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Other values of what trains, such as averages of it, as the weights that they make."""
        found = dict(weights)
        for name in self.names:
            place = f"{name}.parametrizations.weight"
            b, a = (found.pop(f"{place}.0.{one}") for one in "ba")
            found[f"{name}.weight"] = self.model.get_parameter(f"{place}.original").cpu() + self.scale * (b @ a)
        return found

    def merge(self) -> None:
        """Take the adapters away and leave the weights that they made; all trains again that did before."""
        for name in self.names:
            parametrize.remove_parametrizations(self.model.get_submodule(name), "weight", leave_parametrized=True)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._trained[name])

    @staticmethod
    def _matching(field: str, pattern: str, names: Mapping[str, object] | list[str]) -> list[str]:
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise InputError(f"training.{field}: {pattern!r} is not a regular expression: {error}") from None
        found = [name for name in names if wanted.search(name)]
        if not found:
            raise InputError(f"training.{field}: {pattern!r} matches nothing that trains")
        return found
