"""Mobile trunks of the lite family, fully convolutional and free of batch normalisation.

Both are described by a table and padded as TensorFlow pads, so that published Apache-2.0 weights fit them
tensor by tensor: see hand_pose_3d.training.pretrained. Biases carry the folded normalisation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's 'SAME' padding for inputs whose size is a multiple of the stride."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        total = kernel - stride
        before = total // 2
        symmetric = total % 2 == 0
        super().__init__(channels_in, channels_out, kernel, stride, before if symmetric else 0, groups=groups)
        self.pad = None if symmetric else (before, total - before, before, total - before)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # With an explicit value, ONNX Runtime fuses the padding into the convolution.
        return super().forward(x if self.pad is None else F.pad(x, self.pad, value=0.0))


def _initialise(module: nn.Module) -> None:
    """He's initialisation, residual branches near zero, as nothing is normalised (Zhang et al., 2019)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        for block in module.modules():
            if isinstance(block, BlazeBlock):
                block.pointwise.weight *= 0.25
            elif isinstance(block, InvertedResidual) and block.skip:
                block.project.weight *= 0.25


@dataclass(frozen=True)
class Block:
    """One inverted residual: expansion width, output width, depthwise kernel and stride."""

    expanded: int
    out: int
    kernel: int = 3
    stride: int = 1


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; a skip where shapes allow (Sandler et al., CVPR 2018)."""

    def __init__(self, channels_in: int, block: Block) -> None:
        super().__init__()
        self.skip = block.stride == 1 and channels_in == block.out
        self.expand = nn.Conv2d(channels_in, block.expanded, 1) if block.expanded != channels_in else None
        self.depthwise = SameConv2d(block.expanded, block.expanded, block.kernel, block.stride, groups=block.expanded)
        self.project = nn.Conv2d(block.expanded, block.out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skip else y


HAND_BLOCKS = (  # as in MediaPipe Hands' landmark network
    Block(24, 16),
    Block(64, 24, 3, 2),
    Block(144, 24),
    Block(144, 40, 5, 2),
    Block(240, 40, 5),
    Block(240, 80, 3, 2),
    Block(480, 80),
    Block(480, 80),
    Block(480, 112, 5),
    Block(672, 112, 5),
    Block(672, 112, 5),
    Block(672, 192, 5, 2),
    Block(1152, 192, 5),
    Block(1152, 192, 5),
    Block(1152, 192, 5),
)


class HandTrunk(nn.Module):
    """Features of one hand's crop, in the shape of MediaPipe Hands' landmark network (EfficientNet-Lite-like).

    forward(image (N, 3, S, S) in 0..1, S a multiple of 32) returns maps of 24, 40, 112 and 192 channels
    at strides 4, 8, 16 and 32, and a pooled vector (N, 1152).
    """

    widths = (24, 40, 112, 192)
    pooled_width = 1152
    _taps = (2, 4, 10, 14)

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 24, 3, 2)
        blocks, width = [], 24
        for block in HAND_BLOCKS:
            blocks.append(InvertedResidual(width, block))
            width = block.out
        self.blocks = nn.ModuleList(blocks)
        self.head_expand = nn.Conv2d(192, self.pooled_width, 1)
        self.head_depthwise = SameConv2d(self.pooled_width, self.pooled_width, 3, groups=self.pooled_width)
        _initialise(self)

    def forward(self, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        return self.rest(*self.front(image, 0), 0)

    def front(self, image: torch.Tensor, blocks: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Maps of the first `blocks` blocks, and the input of the next block."""
        return self._through([], F.relu6(self.stem(image)), 0, blocks)

    def rest(self, maps: list[torch.Tensor], x: torch.Tensor, blocks: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The result of forward, continued from the output of `front`."""
        maps, x = self._through(maps, x, blocks, len(self.blocks))
        x = F.relu6(self.head_depthwise(F.relu6(self.head_expand(x))))
        return maps, x.mean((2, 3))

    def _through(
        self, maps: list[torch.Tensor], x: torch.Tensor, start: int, stop: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        maps = list(maps)
        for index in range(start, stop):
            x = self.blocks[index](x)
            if index in self._taps:
                maps.append(x)
        return maps, x


class ConvolvedPReLU(nn.Module):
    """PReLU as x + sign(1 - w) relu(-|1 - w| x), in convolutions of one pixel by depth; for float32.

    ONNX Runtime fuses those, the sum and ReLU in its blocked layout; its PReLU takes a third of the network's time on a
    CPU.
    """

    below: torch.Tensor
    sign: torch.Tensor

    def __init__(self, act: nn.PReLU) -> None:
        super().__init__()
        rest = 1 - act.weight.detach()[:, None, None, None]
        self.register_buffer("below", -rest.abs())
        self.register_buffer("sign", rest.sign())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        below = F.relu(F.conv2d(x, self.below, groups=len(self.below)))
        return F.conv2d(below, self.sign, groups=len(self.sign)) + x


def for_onnxruntime(network: nn.Module) -> nn.Module:
    """A copy of a network that gives the same, with layers that ONNX Runtime computes faster on a CPU."""
    network = copy.deepcopy(network)
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.PReLU):
                setattr(module, name, ConvolvedPReLU(child))
    return network


def _more_channels(x: torch.Tensor, width: int, extra: int) -> torch.Tensor:
    """x of `width` channels with others of zeros behind; exported as a convolution, which ONNX Runtime runs faster."""
    if not torch.onnx.is_in_onnx_export():
        return F.pad(x, (0, 0, 0, 0, 0, extra))
    return F.conv2d(x, torch.eye(width + extra, width, dtype=x.dtype, device=x.device)[..., None, None])


class BlazeBlock(nn.Module):
    """Depthwise 5x5 and pointwise convolution with a skip and PReLU (Bazarevsky et al., 2019)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.width, self.extra = stride, channels_in, channels_out - channels_in
        self.depthwise = SameConv2d(channels_in, channels_in, 5, stride, groups=channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)
        self.act = nn.PReLU(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pointwise(self.depthwise(x))
        if self.stride == 2:
            x = F.max_pool2d(x, 2)
        if self.extra:
            x = _more_channels(x, self.width, self.extra)
        return self.act(x + y)


class SceneTrunk(nn.Module):
    """Features of a whole scene, in the shape of MediaPipe's palm detector with its feature pyramid.

    forward(image (N, 3, H, W) in 0..1, sides multiples of 32) returns maps of 64, 128 and 256 channels
    at strides 4, 8 and 16; the latter two have passed the pyramid.
    """

    widths = (64, 128, 256)
    _stages = ((32, 32), (32, 64), (64, 128), (128, 256), (256, 256))

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 5, 2)
        self.stem_act = nn.PReLU(32)
        stages = []
        for index, (width_in, width) in enumerate(self._stages):
            first = BlazeBlock(width_in, width, 2 if index else 1)
            stages.append(nn.Sequential(first, *(BlazeBlock(width, width) for _ in range(4 if index else 3))))
        self.stages = nn.ModuleList(stages)
        self.up16, self.up16_act = nn.Conv2d(256, 256, 1), nn.PReLU(256)
        self.merge16 = nn.Sequential(BlazeBlock(256, 256), BlazeBlock(256, 256))
        self.up8, self.up8_act = nn.Conv2d(256, 128, 1), nn.PReLU(128)
        self.merge8 = nn.Sequential(BlazeBlock(128, 128), BlazeBlock(128, 128))
        _initialise(self)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem_act(self.stem(image))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        _, m4, m8, m16, m32 = maps
        m16 = self.merge16(m16 + self.up16_act(_doubled(self.up16(m32))))
        m8 = self.merge8(m8 + self.up8_act(_doubled(self.up8(m16))))
        return [m4, m8, m16]


def _doubled(x: torch.Tensor) -> torch.Tensor:
    # MediaPipe enlarges before its convolution of one pixel: the result is the same, for four times the work.
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
