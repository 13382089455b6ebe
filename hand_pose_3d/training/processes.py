"""Training by several processes, which `torchrun` starts: their group, means and maxima over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import nn

from hand_pose_3d.errors import InvalidInputError

_LONGEST_WAIT = timedelta(hours=6)
"""Timeout of processes that wait while one renders, packs or evaluates."""


@contextmanager
def process_group(device: torch.device) -> Iterator[int]:
    """Join the processes that `torchrun` started, unless they are already; yields this one's rank.

    Raises InvalidInputError for one GPU of all.
    """
    import torch.distributed as dist

    rank = int(os.environ.get("RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield rank
        return
    if device.index is not None:
        raise InvalidInputError(f"with torchrun each process takes a GPU of its own: give device cuda, not {device}")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield rank
        dist.barrier()  # none closes its connections while another still needs them
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    import torch.distributed as dist

    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for p, piece in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = torch.empty_like(p).copy_(piece.view_as(p))


def largest(values: list[float], world: int) -> list[float]:
    """The largest of each value over the processes, the same in all."""
    if world == 1:
        return values
    import torch.distributed as dist

    most = torch.tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        most = most.cuda()
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.tolist()
