"""PoseNet: one score map a keypoint, refined over three stages."""

from __future__ import annotations

import torch
from torch import nn

from hand_pose_3d.networks.layers import FRONT, Conv, LayerTable, build, run
from hand_pose_3d.skeleton import NUM_KEYPOINTS

ENCODING: LayerTable = (  # section 4.2 and hand3d
    *FRONT,
    Conv("conv4_1", 3, 512),
    Conv("conv4_2", 3, 512),
    *(Conv(f"conv4_{i}", 3, 256) for i in range(3, 7)),
    Conv("conv4_7", 3, 128),
)
STAGE_0: LayerTable = (Conv("conv5_1", 1, 512), Conv("conv5_2", 1, NUM_KEYPOINTS, relu=False))


def _recurrent(stage: str) -> LayerTable:
    return (
        *(Conv(f"conv{stage}_{i}", 7, 128) for i in range(1, 6)),
        Conv(f"conv{stage}_6", 1, 128),
        Conv(f"conv{stage}_7", 1, NUM_KEYPOINTS, relu=False),
    )


STAGE_1, STAGE_2 = _recurrent("6"), _recurrent("7")


class PoseNet(nn.Module):
    """The paper's keypoint network: 31 convolutions, 17,518,847 parameters (section 4.2).

    Channels of the score maps are the package's keypoint order.
    """

    def __init__(self) -> None:
        super().__init__()
        encoding = build(self, ENCODING, channels=3, long_chain=True)
        build(self, STAGE_0, encoding, long_chain=True)
        build(self, STAGE_1, encoding + NUM_KEYPOINTS, long_chain=True)
        build(self, STAGE_2, encoding + NUM_KEYPOINTS, long_chain=True)

    def forward(self, crop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score maps of the three stages; the last is the result, all three are trained.

        crop: (N, 3, 256, 256) RGB in -0.5..0.5. Returns three tensors (N, 21, 32, 32).
        """
        encoding = run(self, ENCODING, crop)
        first = run(self, STAGE_0, encoding)
        second = run(self, STAGE_1, torch.cat([first, encoding], 1))
        third = run(self, STAGE_2, torch.cat([second, encoding], 1))
        return first, second, third
