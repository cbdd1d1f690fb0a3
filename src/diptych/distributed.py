"""Rank helpers and collectives for training under `torchrun`; every one of them is the identity in a single process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def _active() -> bool:
    """Whether a process group is running."""
    return bool(dist.is_available() and dist.is_initialized())


def rank() -> int:
    """This process's number, from 0; 0 in a single process."""
    return int(dist.get_rank()) if _active() else 0


def world_size() -> int:
    """How many processes train together; 1 in a single process."""
    return int(dist.get_world_size()) if _active() else 1


def is_main() -> bool:
    """Whether this process writes files and talks to the person."""
    return rank() == 0


def local_device() -> torch.device:
    """The device of this process: its own GPU (`LOCAL_RANK`) on a CUDA machine, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def setup(device: str = "auto") -> bool:
    """Join the process group that `torchrun` describes in the environment; says whether this call started one.

    Nothing happens outside `torchrun`, or when a group runs already. On a CUDA machine GPU tensors go through nccl and
    CPU tensors through gloo; without CUDA, or with `device="cpu"`, everything goes through gloo. Pair a True with
    `teardown`.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or not dist.is_available() or dist.is_initialized():
        return False
    if torch.cuda.is_available() and device != "cpu":
        torch.cuda.set_device(local_device())
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    return True


def teardown() -> None:
    """Leave the process group, if there is one."""
    if _active():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process has come here."""
    if _active():
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes, as a new tensor without gradient."""
    total = tensor.detach().clone()
    if _active():
        dist.all_reduce(total)
    return total


def all_numbers(numbers: Sequence[int | float]) -> list[list[float]]:
    """Every process's row of numbers, in rank order. Goes through the CPU, so that a GPU is not waited for."""
    own = torch.tensor(list(numbers), dtype=torch.float64)
    if not _active():
        return [own.tolist()]
    rows = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(rows, own)
    return [row.tolist() for row in rows]


def all_objects(value: Any) -> list[Any]:
    """Every process's `value`, in rank order: small plain data, such as sample ids and messages."""
    if not _active():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gather_with_grad(tensor: Tensor) -> Tensor:
    """All processes' rows, one below the other in rank order; gradients flow back to the process they came from.

    Forward: (B, ...) -> (sum of B over processes, ...). Processes may bring different numbers of rows, since an
    unreadable picture leaves a batch on one process shorter; a scalar counts as one row.
    Backward: a process gets the SUM over processes of the gradients with respect to its own rows (reduce-scatter).
    Where each of W processes computes the same global loss L, that is W dL/dtensor, which the averaging over processes
    in `DistributedDataParallel` turns into dL/dtensor. In a single process this is the identity.
    """
    if not _active() or world_size() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor if tensor.ndim else tensor[None])  # type: ignore[no-untyped-call]
    return gathered


def first_row(rows: int) -> int:
    """Where this process's rows begin in what `gather_with_grad` returns; `rows` is how many this process brings."""
    return int(sum(row[0] for row in all_numbers([rows])[: rank()]))


class _Gather(torch.autograd.Function):
    """The collective behind `gather_with_grad`."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        sizes = [int(row[0]) for row in all_numbers([len(tensor)])]
        ctx.sizes = sizes
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        pieces = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        sizes, own = ctx.sizes, rank()
        gradient = gradient.contiguous()
        if gradient.is_cuda and min(sizes) == max(sizes):  # gloo has no reduce-scatter
            mine = gradient.new_empty((sizes[own], *gradient.shape[1:]))
            dist.reduce_scatter_tensor(mine, gradient)
            return mine
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        start = sum(sizes[:own])
        return gradient[start : start + sizes[own]]


__all__ = [
    "all_numbers",
    "all_objects",
    "all_sum",
    "barrier",
    "first_row",
    "gather_with_grad",
    "is_main",
    "local_device",
    "rank",
    "setup",
    "teardown",
    "world_size",
]
