"""PosePrior and ViewpointNet: the two streams from score maps to a canonical pose and its rotation."""

from __future__ import annotations

import torch
from torch import nn

from hand_pose_3d.networks.layers import Conv, LayerTable, build, linear, relu, run
from hand_pose_3d.skeleton import NUM_KEYPOINTS

MAP_SIZE = 32
"""Edge of the score maps that lifting takes."""


def _encoder(prefix: str, widths: tuple[int, int, int]) -> LayerTable:
    return tuple(
        Conv(f"{prefix}_{block}_{step}", 3, width, stride=step) for block, width in enumerate(widths) for step in (1, 2)
    )


POSE_LAYERS = _encoder("conv_pose", (32, 64, 128))
VIEWPOINT_LAYERS = _encoder("conv_vp", (64, 128, 256))
_ENCODED_PIXELS = (MAP_SIZE // 8) ** 2  # of a map after three strides of 2


class PosePrior(nn.Module):
    """The paper's pose stream; 1,637,279 parameters (section 4.3).

    bottleneck: width of a linear layer before the coordinates (the paper's Bottleneck variant has 30;
    0 leaves it out).
    """

    def __init__(self, bottleneck: int = 0) -> None:
        super().__init__()
        channels = build(self, POSE_LAYERS, NUM_KEYPOINTS)
        self.fc_rel0 = linear(channels * _ENCODED_PIXELS + 2, 512)
        self.fc_rel1 = linear(512, 512)
        self.dropout = nn.Dropout(0.2)
        self.fc_bottleneck = linear(512, bottleneck) if bottleneck else nn.Identity()
        self.fc_xyz = linear(bottleneck or 512, NUM_KEYPOINTS * 3)

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> torch.Tensor:
        """Canonical coordinates, of a left hand: those of a right hand come mirrored (z negated).

        maps: (N, 21, 32, 32) score maps; hand_side: (N, 2) one-hot left, right. Returns (N, 21, 3).
        """
        x = run(self, POSE_LAYERS, maps).flatten(1)
        x = self.dropout(relu(self.fc_rel0(torch.cat([x, hand_side.to(x.dtype)], 1))))
        x = self.dropout(relu(self.fc_rel1(x)))
        return self.fc_xyz(self.fc_bottleneck(x)).reshape(-1, NUM_KEYPOINTS, 3)


class ViewpointNet(nn.Module):
    """The paper's viewpoint stream; 2,238,403 parameters (section 4.3)."""

    def __init__(self) -> None:
        super().__init__()
        channels = build(self, VIEWPOINT_LAYERS, NUM_KEYPOINTS)
        self.fc_vp0 = linear(channels * _ENCODED_PIXELS + 2, 256)
        self.fc_vp1 = linear(256, 128)
        self.dropout = nn.Dropout(0.25)
        self.fc_vp_ux = linear(128, 1)
        self.fc_vp_uy = linear(128, 1)
        self.fc_vp_uz = linear(128, 1)

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> torch.Tensor:
        """Axis times angle in radians; :func:`rotation_from_axis_angle` makes a matrix of it.

        maps: (N, 21, 32, 32) score maps; hand_side: (N, 2) one-hot left, right. Returns (N, 3).
        """
        x = run(self, VIEWPOINT_LAYERS, maps).flatten(1)
        x = self.dropout(relu(self.fc_vp0(torch.cat([x, hand_side.to(x.dtype)], 1))))
        x = self.dropout(relu(self.fc_vp1(x)))
        return torch.cat([self.fc_vp_ux(x), self.fc_vp_uy(x), self.fc_vp_uz(x)], 1)


def rotation_from_axis_angle(u: torch.Tensor) -> torch.Tensor:
    """Rodrigues' rotation matrix of axis-angle vectors. u: (N, 3); returns (N, 3, 3).

    The paper applies it to rows, ``relative = canonical @ R``: R is the *transpose* of
    geometry's rotation_camera_canonical. Computed in float32 at least.
    """
    u = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
    angle = torch.sqrt((u * u).sum(-1, keepdim=True) + 1e-8)
    x, y, z = (u / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    axis = torch.stack([x, y, z], -1)
    c, s = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
    eye = torch.eye(3, dtype=u.dtype, device=u.device)
    return c * eye + (1 - c) * axis[:, :, None] * axis[:, None, :] + s * cross
