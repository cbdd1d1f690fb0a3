"""The gradient of one batch, exactly, however little of the batch fits through the model at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.capabilities import TwoStage
from diptych.distributed import all_sum, rank, world_size
from diptych.machine import autocast
from diptych.training.config import TrainConfig
from diptych.types import Batch, Losses

LossesOf = Callable[[Batch], Losses]
CHANCE = "chance/"  # prefix of a part's chance level among a step's numbers


class Pull(nn.Module):
    """What `DistributedDataParallel` wraps: the losses, or the pull of gradients that are known already."""

    def __init__(self, model: nn.Module, losses: LossesOf | None) -> None:
        super().__init__()
        self.model = model
        self.losses = losses

    def forward(
        self,
        batch: Batch,
        features: Sequence[Tensor | None] | None = None,
        parameters: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> Losses | Tensor:
        """The losses of `batch`; with the gradients of its features, a scalar that has just these gradients instead.

        That scalar is the sum of <feature, gradient> over the batch's encoded features, and of <parameter, gradient>
        over `parameters`, pairs of a parameter that the objective uses directly and its gradient.
        """
        if features is None:
            return (self.losses or self.model)(batch)
        assert isinstance(self.model, TwoStage)
        products = [parameter * gradient for parameter, gradient in parameters]
        for feature, pulled in zip(self.model.encode(batch), features, strict=True):
            if pulled is not None:
                products.append(feature.float() * pulled)
        return torch.stack([product.sum() for product in products]).sum()


class Stepper:
    """Adds the gradient of a batch to the parameters' `.grad` and returns the batch's numbers.

    A `TwoStage` model's batch is cut into micro-batches by the gradient cache (Gao et al., "Scaling Deep Contrastive
    Learning Batch Size under Memory Limited Setup", 2021, section 3.2): encode all pieces without a graph, take the
    objective of all features and its gradients with respect to them, then encode each piece again with a graph and
    pull. That is the plain step's gradient, unless layers mix samples (batch norm sees only its micro-batch). Any other
    model's losses are averaged over the pieces and processes, weighted by what they are means over (`Losses.terms`).

    `losses` gives those of a batch; None: the model itself does.

    Random numbers in the model depend on nothing but (seed, step, process, piece). So dropout is the same in both
    encodings, and a resumed run draws what the interrupted one would have drawn.
    """

    def __init__(
        self, model: nn.Module, config: TrainConfig, device: torch.device, losses: LossesOf | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.device = device
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        pull = Pull(model, losses)
        # A pretrained tower may hold weights that its pooling never uses: hence find_unused_parameters.
        self.pull = DistributedDataParallel(pull, find_unused_parameters=True) if world_size() > 1 else pull

    def __call__(self, batch: Batch, step: int, sizes: Sequence[int]) -> dict[str, float]:
        """The gradients of `batch`, this process's share of a global batch.

        Args:
            batch: on this process's device, not empty.
            step: the step's number.
            sizes: samples that each process brings, in rank order.

        Returns "loss", every part, "chance/PART" where known, and the model's stats.
        """
        # All processes must choose the same way, or their collectives would not meet.
        pieces = math.ceil(max(sizes) / self.config.micro_batch) if self.config.micro_batch else 1
        share = len(batch) * len(sizes) / sum(sizes)  # times their number, because DDP averages over processes
        if pieces == 1:
            with self._scene(step, 0):
                losses = self.pull(batch)
                (losses.total * _share(losses, share)).backward()
            return numbers(losses)
        micro = batch.chunks(math.ceil(len(batch) / pieces))
        if isinstance(self.model, TwoStage):
            return self._cached(micro, step, share)
        return self._averaged(micro, step)

    def _cached(self, micro: list[Batch], step: int, share: float) -> dict[str, float]:
        """The exact step of a model whose objective looks across samples."""
        assert isinstance(self.model, TwoStage)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        encoded = []
        with torch.no_grad():
            for piece, batch in enumerate(micro):
                with self._scene(step, piece):
                    encoded.append(self.model.encode(batch))
            for buffer, value in buffers:  # the second encoding moves running averages, once
                buffer.copy_(value)
        features = [torch.cat(column) for column in zip(*encoded, strict=True)]
        sought = [feature.requires_grad_() for feature in features if feature.is_floating_point()]
        with self._scene(step, -1):
            losses = self.model.objective(*features)
            found = torch.autograd.grad(losses.total * share, [*sought, *self.trained], allow_unused=True)
        by_feature = iter(found[: len(sought)])
        gradients = [next(by_feature) if feature.is_floating_point() else None for feature in features]
        direct = [(p, gradient) for p, gradient in zip(self.trained, found[len(sought) :]) if gradient is not None]
        row = 0
        for piece, batch in enumerate(micro):
            last = piece == len(micro) - 1
            rows = [None if gradient is None else gradient[row : row + len(batch)] for gradient in gradients]
            with self._scene(step, piece), self._unsynced(not last):
                pulled = self.pull(batch, rows, direct if last else ())
                pulled.backward()
            row += len(batch)
        return numbers(losses)

    def _averaged(self, micro: list[Batch], step: int) -> dict[str, float]:
        """The mean over micro-batches and processes, for a model whose samples have nothing to do with each other."""
        counts: list[Tensor] = []
        sums: dict[str, float] = {}
        for piece, batch in enumerate(micro):
            with self._scene(step, piece), self._unsynced(piece < len(micro) - 1):
                losses = self.pull(batch)
                counts.append(losses.total.new_tensor(len(batch)) if losses.terms is None else losses.terms)
                (losses.total * counts[-1]).backward()
            for name, value in numbers(losses).items():
                sums[name] = sums.get(name, 0.0) + float(counts[-1]) * value
        seen = torch.stack(counts).float().sum()
        everywhere = all_sum(seen).clamp(min=1)
        for parameter in self.trained:
            if parameter.grad is not None:
                parameter.grad.mul_(world_size() / everywhere)
        return {name: value / max(float(seen), 1.0) for name, value in sums.items()}

    @contextmanager
    def _scene(self, step: int, piece: int) -> Iterator[None]:
        """This piece's own random numbers, and the run's precision."""
        name = f"{self.config.seed}/{step}/{rank()}/{piece}"
        torch.manual_seed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big"))
        with autocast(self.device, self.config.precision):
            yield

    @contextmanager
    def _unsynced(self, wanted: bool) -> Iterator[None]:
        """Without the exchange of gradients between processes, where wanted."""
        with self.pull.no_sync() if wanted and isinstance(self.pull, DistributedDataParallel) else nullcontext():
            yield


def _share(losses: Losses, samples: float) -> Tensor | float:
    """This process's share in the mean over all, times their number; `samples` is what it is by samples."""
    if losses.terms is None or world_size() == 1:
        return samples
    count = losses.terms.float()
    return world_size() * count / all_sum(count).clamp(min=1)


def numbers(losses: Losses) -> dict[str, float]:
    """The losses, their chance levels and the stats as plain numbers, fetched from the device in one go."""
    values: dict[str, Tensor | float] = {"loss": losses.total, **losses.parts, **losses.stats}
    tensors = {name: value.detach().float() for name, value in values.items() if isinstance(value, Tensor)}
    fetched = torch.stack([tensor.reshape(()) for tensor in tensors.values()]).tolist()
    plain = {name: float(value) for name, value in values.items() if not isinstance(value, Tensor)}
    chance = {CHANCE + name: float(value) for name, value in losses.chance.items()}
    return dict(zip(tensors, fetched)) | plain | chance


def offenders(model: nn.Module, batch: Batch, device: torch.device, config: TrainConfig) -> list[str]:
    """The ids of the samples that make the loss of `batch` non-finite, found by evaluating ever smaller pieces of it.

    A sample is to blame where its own input, features or loss are not finite. Empty where no sample is so by itself.
    The model is looked at in evaluation mode, without exchange between processes.
    """
    inputs = [tensor for tensor in (batch.pixels, batch.image_features) if tensor is not None]
    rows = [torch.isfinite(tensor.float()).flatten(1).all(dim=1).cpu() for tensor in inputs]
    bad = [name for i, name in enumerate(batch.ids) if not all(row[i] for row in rows)]
    if bad:
        return bad
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), autocast(device, config.precision):
            return _search(model, batch)
    finally:
        for module, training in modes.items():
            module.training = training


def _search(model: nn.Module, batch: Batch) -> list[str]:
    """Bisection: the ids of the smallest pieces that are not finite."""
    values: Mapping[str, Tensor] | Sequence[Tensor]
    values = model.encode(batch) if isinstance(model, TwoStage) else [model(batch).total]
    if all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point()):
        return []
    if len(batch) == 1:
        return list(batch.ids)
    found = [name for half in batch.chunks(math.ceil(len(batch) / 2)) for name in _search(model, half)]
    return found or list(batch.ids)
