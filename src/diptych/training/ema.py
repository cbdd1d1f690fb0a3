"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of the weights that train: average += (1 - d) (weight - average) after every step.

    Deviation: early on d = min(decay, (1 + step) / (10 + step)), so that the random start is forgotten in short runs.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.weights: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights as they are after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(self.live.values()), 1 - decay)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from weights that were saved. Raises KeyError for a weight that is missing."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While inside, the model has the averaged weights."""
        own = {name: weight.detach().clone() for name, weight in self.live.items()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self.live.items():
            weight.copy_(weights[name])
