"""Which parameters train at which rate, and the proof that the others did not move."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.training.config import TrainConfig
from diptych.types import InputError

OTHERS = "all others"
OWN = "frozen by the model"
PARTS_SHOWN = 6


class Group(NamedTuple):
    """Some named parameters and their peak learning rate; None is frozen."""

    pattern: str
    lr: float | None
    names: list[str]
    weights: int

    def __str__(self) -> str:
        how = f"lr {self.lr:g}, " if self.lr is not None else "" if self.pattern == OWN else "frozen, "
        tensors = "1 tensor" if len(self.names) == 1 else f"{len(self.names)} tensors"
        parts = list(dict.fromkeys(name.partition(".")[0] for name in self.names))
        where = ", ".join(parts[:PARTS_SHOWN]) + (", ..." if len(parts) > PARTS_SHOWN else "")
        return f"{self.pattern}: {how}{tensors}, {self.weights:,} weights in {where}"


class FrozenWeightsChanged(RuntimeError):
    """A weight that was to stay as it is has changed during training: a fault in the model or in the loop."""


def assign(model: nn.Module, groups: Sequence[tuple[str, float | None]], lr: float) -> list[Group]:
    """Sort `model`'s parameters by the ordered patterns; what no pattern names comes last, at `lr`.

    What the model itself has frozen (`requires_grad` False) stays frozen whatever a pattern says. Raises `InputError`
    for a pattern that is not a regular expression or selects nothing, and where nothing trains.
    """
    patterns = []
    for pattern, _ in groups:
        try:
            patterns.append(re.compile(pattern))
        except re.error as error:
            raise InputError(f"training config: groups: {pattern!r} is not a regular expression: {error}") from None
    chosen: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(len(groups) + 2)]
    for name, parameter in model.named_parameters():
        place = next((i for i, pattern in enumerate(patterns) if pattern.search(name)), len(groups))
        frozen_anyway = not parameter.requires_grad and (place == len(groups) or groups[place][1] is not None)
        chosen[-1 if frozen_anyway else place].append((name, parameter))
    for (pattern, _), members in zip(groups, chosen):
        if not members:
            known = ", ".join(sorted({name.split(".")[0] for name, _ in model.named_parameters()}))
            raise InputError(
                f"training config: groups: {pattern!r} selects no parameter that an earlier pattern or the model "
                f"itself has not taken; the parameters' names begin with {known}"
            )
    labels = [*groups, (OTHERS, lr), (OWN, None)]
    found = [
        Group(pattern, rate, [name for name, _ in members], sum(p.numel() for _, p in members))
        for (pattern, rate), members in zip(labels, chosen)
        if members
    ]
    if all(group.lr is None for group in found):
        raise InputError("training config: groups: every parameter is frozen, expected at least one to train")
    return found


@contextmanager
def arranged(model: nn.Module, groups: Sequence[Group]) -> Iterator[dict[str, str]]:
    """While inside, exactly the groups with a rate train; yields the hashes of everything frozen.

    Raises `FrozenWeightsChanged` at the end where a frozen tensor is not bit-equal to what it was. `requires_grad` is
    put back as it was, also after an error.
    """
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trained = {name for group in groups if group.lr is not None for name in group.names}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        hashes = frozen_hashes(model)
        yield hashes
        after = frozen_hashes(model)
        changed = sorted(name for name in hashes if hashes[name] != after.get(name))
        if changed:
            raise FrozenWeightsChanged(f"{len(changed)} frozen tensors changed in training: {', '.join(changed[:5])}")
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, and every module back in its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def frozen_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost modules that have parameters, all of them frozen."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer, _ in found):
            continue
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.append((name, module))
    return found


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every frozen parameter, and every buffer of a frozen module (running averages and the like), by name."""
    tensors: dict[str, Tensor] = {
        name: parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    for prefix, module in frozen_modules(model):
        tensors |= {f"{prefix}.{name}": buffer for name, buffer in module.named_buffers(remove_duplicate=False)}
    return tensors


def frozen_hashes(model: nn.Module) -> dict[str, str]:
    """A SHA-256 over the bytes of each of `frozen_tensors`."""
    return {name: _hash(tensor) for name, tensor in frozen_tensors(model).items()}


def weights_hash(model: nn.Module) -> str:
    """A SHA-256 over all weights and buffers of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {_hash(tensor)}".encode())
    return digest.hexdigest()


def training_mode(model: nn.Module) -> None:
    """Training mode, but evaluation mode for frozen modules: no dropout in them and no moving of running averages."""
    model.train()
    for _, module in frozen_modules(model):
        module.eval()


def adamw(model: nn.Module, groups: Sequence[Group], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) over the groups that train, each split by whether weight decay applies.

    Parameters of fewer than two dimensions (biases, norms, temperatures) are not decayed. Each of the optimizer's
    groups keeps its peak rate as `peak`.
    """
    parameters = dict(model.named_parameters())
    options = []
    for group in groups:
        if group.lr is None:
            continue
        for decayed in (True, False):
            members = [parameters[name] for name in group.names if (parameters[name].ndim >= 2) == decayed]
            if members:
                decay = config.weight_decay if decayed else 0.0
                options.append({"params": members, "lr": group.lr, "peak": group.lr, "weight_decay": decay})
    kinds = {parameter.device.type for parameter in parameters.values() if parameter.requires_grad}
    return torch.optim.AdamW(options, lr=config.lr, betas=config.betas, fused=kinds <= {"cpu", "cuda"})


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Put every group's learning rate at `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _hash(tensor: Tensor) -> str:
    """SHA-256 of the tensor's bytes, shape and type."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(flat.numpy().data)
    return digest.hexdigest()
