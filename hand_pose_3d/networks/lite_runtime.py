"""The lite family at run time: uint8 in, float out, each step one graph."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.conventions import CROP_SIZE, CropReading, image_to_input, to_unit
from hand_pose_3d.networks.lite import (
    LiteFinePoseNet,
    LiteHandSegNet,
    LiteLifting,
    LitePalmNet,
    LitePoseNet,
    soft_argmax,
)
from hand_pose_3d.skeleton import NUM_KEYPOINTS

_AGREE, _DISAGREE = 0.03, 0.1
"""Mean distances of LiteFinePoseNet's keypoints from LitePoseNet's, over the hand's extent, up to which they count in
full and from which on they do not. Chosen on held-out renders, photographs and rendered videos: docs/experiments.md."""

_FINE_SHARE = 2 / 3
"""Their largest weight in the mean with LitePoseNet's: LiteFinePoseNet gives two opinions, LitePoseNet one."""


class SceneReader(nn.Module):
    """LiteHandSegNet's detections in a scene.

    forward(image (N, H, W, 3) RGB, 0..255, sides multiples of 32) returns the maps (N, 6, H/4, W/4) that
    `detection.decode` reads, with centres only where they are greatest among their neighbours.
    """

    def __init__(self, segmentation: LiteHandSegNet) -> None:
        super().__init__()
        self.segmentation = segmentation

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.segmentation.maps(image_to_input(image, self.segmentation.score.weight.dtype))
        return torch.cat([_peaks(maps.centre), maps.extent.float(), maps.direction.float(), maps.offset.float()], 1)


class PalmReader(nn.Module):
    """LitePalmNet's detections in a scene.

    forward(image (N, H, W, 3) RGB, 0..255, sides multiples of 32) returns, for cells of PALM_STRIDES, the maps
    (N, 6, ., .) that `detection.decode` reads, with centres only where they are greatest among their neighbours.
    """

    def __init__(self, palms: LitePalmNet) -> None:
        super().__init__()
        self.palms = palms

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.palms(image_to_input(image, self.palms.scores[0].weight.dtype))
        return tuple(torch.cat([_peaks(each[:, :1]), each[:, 1:]], 1) for each in maps)


def _peaks(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, 1, h, w) where they are greatest among their neighbours, else 0."""
    centre = logits.float().sigmoid()
    return centre * (centre == F.max_pool2d(centre, 3, 1, 1)).float()


def _in_blocks(pose: LitePoseNet) -> LitePoseNet:
    """The same network with its first score maps padded to 24 channels by unused zeros.

    ONNX Runtime's fast convolutions work on blocks of eight channels.
    """
    pose, extra = copy.deepcopy(pose), -NUM_KEYPOINTS % 8
    first, mix = pose.first, pose.mix
    maps, fine = mix.weight.tensor_split([NUM_KEYPOINTS], 1)
    mix.weight = nn.Parameter(torch.cat([F.pad(maps, (0, 0, 0, 0, 0, extra)), fine], 1))
    first.weight = nn.Parameter(F.pad(first.weight, (0, 0, 0, 0, 0, 0, 0, extra)))
    first.bias = nn.Parameter(F.pad(first.bias, (0, extra)))  # type: ignore[arg-type]
    return pose


class CropReader(nn.Module):
    """Keypoints, side and 3D pose of crops.

    forward(crops (N, S, S, 3) RGB, 0..255, side (N,) float: 0 left, 1 right, negative to be estimated). S is
    conventions.CROP_SIZE, with `fine` FINE_CROP_SIZE.

    fine: where the two PoseNets agree, keypoints are a mean of both. LiteFinePoseNet is closer on most hands,
    LitePoseNet reads more of those that are small, blurred or hold things.
    """

    def __init__(self, pose: LitePoseNet, lifting: LiteLifting, fine: LiteFinePoseNet | None = None) -> None:
        super().__init__()
        self.pose, self.lifting, self.fine = _in_blocks(pose), lifting, fine

    def forward(self, crops: torch.Tensor, side: torch.Tensor) -> CropReading:
        image = image_to_input(crops, self.pose.first.weight.dtype)
        output = self.pose(image if self.fine is None else _resized(image))
        maps = output.score_maps[-1].float()
        found, spread = soft_argmax(maps)
        uv, spread = to_unit(found, maps.shape[-1]), spread / maps.shape[-1]
        if self.fine is not None:
            uv = _corrected(uv, self.fine(image).keypoints)
        right = output.side_logit.float().sigmoid()
        is_right = torch.where(side < 0, (right > 0.5).float(), (side > 0.5).float())
        hand_side = torch.stack([1 - is_right, is_right], 1)
        lifted = self.lifting.read(uv, spread, hand_side)
        assert lifted.canonical is not None and lifted.rotation is not None
        a, b = self.pose.score_calibration[0].float(), self.pose.score_calibration[1].float()
        scores = torch.sigmoid(a - b * spread)
        a, b = self.pose.presence_calibration.float()
        presence = torch.sigmoid(a + b * output.presence_logit.float())
        return CropReading(uv, scores, right, presence, lifted.canonical, lifted.rotation)


def _resized(image: torch.Tensor) -> torch.Tensor:
    return F.interpolate(image, size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False)


def _corrected(uv: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """Keypoints of LitePoseNet (N, 21, 2), 0..1 over the crop, moved towards LiteFinePoseNet's as far as they agree."""
    extent = (uv.amax(1) - uv.amin(1)).amax(1)
    apart = (fine - uv).square().sum(2).sqrt().mean(1) / extent
    share = _FINE_SHARE * ((_DISAGREE - apart) / (_DISAGREE - _AGREE)).clamp(0, 1)
    return uv + share[:, None, None] * (fine - uv)
