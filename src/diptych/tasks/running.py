"""How a model runs when it is used and not trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diptych.machine import Precision, autocast, best_device, channels_last_pays


@contextmanager
def ready(model: Any, device: str = "auto") -> Iterator[torch.device]:
    """The model in eval mode on its device, its convolutions in the machine's memory format. Yields the device.

    "auto" leaves a model that is on an accelerator where it is. Afterwards every module is back in the mode it was in;
    the model stays on the device.
    """
    if not isinstance(model, nn.Module):
        yield best_device(device)
        return
    tensors = [*model.parameters(), *model.buffers()]
    here = tensors[0].device if tensors else torch.device("cpu")
    there = here if device == "auto" and here.type != "cpu" else best_device(device)
    training = [module for module in model.modules() if module.training]
    if here != there:
        model.to(there)
    if channels_last_pays(there) and not all(map(_is_channels_last, tensors)):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in training:
        module.training = False
    try:
        yield there
    finally:
        for module in training:
            module.training = True


@contextmanager
def computing(device: torch.device, precision: Precision = "auto") -> Iterator[None]:
    """No gradients, and bfloat16 where it pays (see `diptych.machine.autocast`).

    `no_grad` and not `inference_mode`: it is as fast, and what a module keeps from such a call (folded norms, masks)
    may serve in training later.
    """
    with torch.no_grad(), autocast(device, precision):
        yield


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last)
