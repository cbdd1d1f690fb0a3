"""How a model runs when it is used and not trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.machine import Precision, autocast, best_device, channels_last_pays
from diptych.tasks.reading import Decode, Pictures, Progress, Read, read_pictures
from diptych.types import InputError, Rejected


class Told(NamedTuple):
    """`results[i]` is about entry `kept[i]`; entries without a result are in `rejected`."""

    results: list[Any]
    kept: list[int]
    rejected: list[Rejected]


def ask_each(
    model: Any,
    images: Pictures,
    ask: Callable[[Read], Sequence[Any]],
    decode: Decode,
    *,
    several: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Told:
    """What `ask` says of each picture, batch by batch, with the model ready on its device.

    `ask` gets a batch without unreadable pictures and gives one result for each, or `Rejected` where there is none.
    """
    told, done = Told([], [], []), 0
    with ready(model, device) as place:
        for read in read_pictures(images, decode, batch_size, several=several):
            told.rejected.extend(read.rejected.values())
            with computing(place, precision):
                results = ask(read) if read.positions else []
            if len(results) != len(read.positions):
                raise InputError(f"{name_of(model)}: gave {len(results)} results for {len(read.positions)} pictures")
            for position, name, result in zip(read.positions, read.names, results):
                if isinstance(result, Rejected):
                    told.rejected.append(result._replace(id=name))
                    continue
                told.results.append(result)
                told.kept.append(position)
            done += len(read.positions) + len(read.rejected)
            if progress is not None:
                progress(done, len(images))
    return told


def name_of(model: Any) -> str:
    """What to call a model in a message: its address where it has one, else its class."""
    return str(getattr(model, "address", "") or type(model).__name__)


def usage_of(model: Any) -> str:
    """What a model behind an address was asked and has cost so far, in one line; "" for a model in this process."""
    return str(getattr(model, "usage", ""))


def lacks(model: Any, what: str, who: str) -> InputError:
    """The error for a model that cannot do what is asked; `who` says which models can."""
    return InputError(f"model {name_of(model)}: cannot {what}; {who} can")


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
    if channels_last_pays(there):
        for tensor in (*model.parameters(), *model.buffers()):  # `model.to` would stumble over kernels of video models
            if not _is_channels_last(tensor):
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    for module in training:
        module.training = False
    # Autocast keeps its casts of weights that want gradients, and casts all others anew at every use: a frozen language
    # model would be cast for every token. Whoever computes here computes under `no_grad`.
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad and parameter.is_leaf]
    frozen = [parameter for parameter in frozen if parameter.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield there
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
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
