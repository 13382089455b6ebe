"""Networks as tables: named convolutions and pools that are built and run in order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from hand_pose_3d.networks.tensorflow_ops import pad_same

LEAK = 0.01  # slope of the ReLU below zero, hand3d's
BIAS_INIT = 1e-4  # hand3d's


class Conv(NamedTuple):
    """One row of a layer table: a square convolution with TensorFlow's SAME padding and a bias."""

    name: str
    kernel: int
    channels: int
    stride: int = 1
    relu: bool = True


class Pool(NamedTuple):
    """A 2x2 max pool with stride 2; an odd last row or column is dropped."""


LayerTable = tuple[Conv | Pool, ...]
"""Layers in the order in which they run; names are those of the authors' variables."""

FRONT: LayerTable = (
    Conv("conv1_1", 3, 64),
    Conv("conv1_2", 3, 64),
    Pool(),
    Conv("conv2_1", 3, 128),
    Conv("conv2_2", 3, 128),
    Pool(),
    *(Conv(f"conv3_{i}", 3, 256) for i in range(1, 5)),
    Pool(),
)
"""The first layers of both HandSegNet and PoseNet."""


def init_layer(layer: nn.Conv2d | nn.Linear) -> None:
    """Xavier weights and a bias of 1e-4, as in the authors' code."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, BIAS_INIT)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A fully connected layer with the authors' initial values."""
    layer = nn.Linear(inputs, outputs)
    init_layer(layer)
    return layer


def relu(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU max(x, 0.01 x)."""
    return F.leaky_relu(x, LEAK)


def build(module: nn.Module, table: LayerTable, channels: int, long_chain: bool = False) -> int:
    """Add a table's convolutions to a module under their names; returns the channels that leave the table.

    channels: channels of the input. long_chain: begin with weights through which a signal keeps its size over many
    layers (He et al., Delving deep into rectifiers, ICCV 2015), a tenth as large in layers that give scores. The
    authors start such networks from Convolutional Pose Machines, the others from Xavier's weights.
    """
    for row in table:
        if isinstance(row, Conv):
            padding = row.kernel // 2 if row.stride == 1 else 0
            layer = nn.Conv2d(channels, row.channels, row.kernel, row.stride, padding)
            init_layer(layer)
            if long_chain:
                nn.init.kaiming_normal_(layer.weight, a=LEAK)
                with torch.no_grad():
                    layer.weight *= 1.0 if row.relu else 0.1
            module.add_module(row.name, layer)
            channels = row.channels
    return channels


def run(module: nn.Module, table: LayerTable, x: torch.Tensor) -> torch.Tensor:
    """Send x (N, C, H, W) through the layers that :func:`build` added."""
    for row in table:
        if isinstance(row, Pool):
            x = F.max_pool2d(x, 2)
            continue
        if row.stride > 1:
            x = pad_same(x, row.kernel, row.stride)
        x = getattr(module, row.name)(x)
        if row.relu:
            x = relu(x)
    return x
