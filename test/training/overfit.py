"""Overfitting one batch."""

from __future__ import annotations

import torch

from hand_pose_3d.training.loop import Stage


def losses(stage: Stage, steps: int, batch: int, rate: float, train: bool = True) -> list[float]:
    """Losses of `steps` steps on one repeated batch; train: with dropout, where the network has it."""
    torch.manual_seed(0)
    stage.prepare()
    data = next(stage.batches(batch, 0, 0))
    optimiser = torch.optim.Adam(stage.parameter_groups(rate))
    stage.network.train(train)
    found = []
    for _ in range(steps):
        loss, _ = stage.loss(data)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found
