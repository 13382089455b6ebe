"""HandSegNet: hand or background, per pixel."""

from __future__ import annotations

import torch
from torch import nn

from hand_pose_3d.networks.layers import FRONT, Conv, LayerTable, build, run
from hand_pose_3d.networks.tensorflow_ops import resize_bilinear

LAYERS: LayerTable = (  # section 4.1 and hand3d
    *FRONT,
    *(Conv(f"conv4_{i}", 3, 512) for i in range(1, 5)),
    Conv("conv5_1", 3, 512),
    Conv("conv5_2", 3, 128),
    Conv("conv6_1", 1, 512),
    Conv("conv6_2", 1, 2, relu=False),
)


class HandSegNet(nn.Module):
    """The paper's segmentation network: 16 convolutions at stride 8, 13,601,986 parameters (section 4.1)."""

    def __init__(self) -> None:
        super().__init__()
        build(self, LAYERS, channels=3, long_chain=True)

    def scores_low(self, image: torch.Tensor) -> torch.Tensor:
        """Scores before they are upsampled. image: (N, 3, H, W); returns (N, 2, H // 8, W // 8)."""
        return run(self, LAYERS, image)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores (not probabilities) of background, channel 0, and hand, channel 1.

        image: (N, 3, H, W) RGB in -0.5..0.5, sides of at least 8. Returns (N, 2, H, W).
        """
        return resize_bilinear(self.scores_low(image), (image.shape[-2], image.shape[-1]))
