"""The paper's networks at run time: uint8 in, float out, each step one graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hand_pose_3d.conventions import CROP_SIZE, CropReading, image_to_input, to_unit
from hand_pose_3d.networks.hand_seg_net import HandSegNet
from hand_pose_3d.networks.lifting import Lifting
from hand_pose_3d.networks.lite import LitePoseNet
from hand_pose_3d.networks.pose_net import PoseNet
from hand_pose_3d.networks.tensorflow_ops import resize_bilinear


class PaperSceneReader(nn.Module):
    """Hand probability of every pixel: forward(image (N, H, W, 3) RGB, 0..255) returns (N, H, W) in 0..1."""

    def __init__(self, segmentation: HandSegNet) -> None:
        super().__init__()
        self.segmentation = segmentation

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dtype = next(self.segmentation.parameters()).dtype
        return self.segmentation(image_to_input(image, dtype)).float().softmax(1)[:, 1]


class PaperCropReader(nn.Module):
    """Keypoints by the arg max of the upsampled maps, and the lifted pose.

    forward(crops (N, 256, 256, 3) RGB, 0..255, side (N,) float: 0 left, 1 right, negative to be estimated) returns
    CropReading. Scores are the maps' peaks.
    """

    def __init__(self, pose: PoseNet, lifting: Lifting, side: LitePoseNet) -> None:
        super().__init__()
        self.pose, self.lifting, self.side = pose, lifting, side

    def forward(self, crops: torch.Tensor, side: torch.Tensor) -> CropReading:
        dtype = next(self.pose.parameters()).dtype
        x = image_to_input(crops, dtype)
        maps = self.pose(x)[-1]
        hint = self.side(F.interpolate(x, size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False))
        right = hint.side_logit.float().sigmoid()
        is_right = torch.where(side < 0, (right > 0.5).float(), (side > 0.5).float())
        lifted = self.lifting(maps, torch.stack([1 - is_right, is_right], 1).to(dtype))
        full = resize_bilinear(maps.float(), (crops.shape[1], crops.shape[2]))
        peak, index = full.flatten(2).max(-1)
        width = full.shape[-1]
        row, col = torch.div(index, width, rounding_mode="floor"), index % width
        uv = to_unit(torch.stack([col, row], -1).float(), width)
        return CropReading(
            uv, peak.clamp(0, 1), right, peak.mean(1).clamp(0, 1), lifted.canonical.float(), lifted.rotation.float()
        )
