"""From score maps to 3D: the paper's two streams and the approaches it compares them with, one interface.

Every lifting is a module with ``forward(maps, hand_side) -> LiftingResult``: maps (N, 21, 32, 32) are
score maps, hand_side (N, 2) is one-hot left, right. `relative` is root-relative in camera axes with the
reference bone at length one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hand_pose_3d.networks.pose_prior import PosePrior, ViewpointNet, rotation_from_axis_angle
from hand_pose_3d.skeleton import FINGERS, NUM_KEYPOINTS


class LiftingResult(NamedTuple):
    """Poses of N hands. canonical and rotation are None for approaches that have no canonical frame."""

    relative: torch.Tensor
    """(N, 21, 3), camera axes, root at zero, reference bone of length one."""
    canonical: torch.Tensor | None = None
    """(N, 21, 3), canonical frame of the hand itself (the mirroring of right hands undone)."""
    rotation: torch.Tensor | None = None
    """(N, 3, 3) rotation_camera_canonical: ``relative = canonical @ rotation.T``."""


def _mirror_right(points: torch.Tensor, hand_side: torch.Tensor, axis: int) -> torch.Tensor:
    """Negate one coordinate of right hands. points: (N, 21, D)."""
    right = (hand_side[:, 1] > hand_side[:, 0])[:, None, None]
    at_axis = torch.arange(points.shape[-1], device=points.device) == axis
    return torch.where(right & at_axis, -points, points)


class Lifting(nn.Module):
    """The paper's proposed lifting: canonical pose and viewpoint; 3,875,682 parameters (section 4.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_prior = PosePrior()
        self.viewpoint = ViewpointNet()

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """maps (N, 21, 32, 32) and hand_side (N, 2) to relative, canonical and rotation_camera_canonical."""
        canonical = _mirror_right(self.pose_prior(maps, hand_side), hand_side, axis=2)
        row_rotation = rotation_from_axis_angle(self.viewpoint(maps, hand_side))
        canonical = canonical.to(row_rotation.dtype)
        return LiftingResult(canonical @ row_rotation, canonical, row_rotation.transpose(-1, -2))


class DirectLifting(nn.Module):
    """Relative coordinates straight from the score maps; 1,637,279 parameters (section 5.2, Direct)."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_prior = PosePrior()

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """maps (N, 21, 32, 32) and hand_side (N, 2) to relative coordinates."""
        return LiftingResult(self.pose_prior(maps, hand_side))


class BottleneckLifting(DirectLifting):
    """Direct with a linear layer of 30 units before the output; 1,622,303 parameters (section 5.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_prior = PosePrior(bottleneck=30)


class LocalLifting(nn.Module):
    """Length and two angles of every bone in the frame of its parent; 1,637,279 parameters (section 5.2, Local)."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_prior = PosePrior()

    def chain(self, maps: torch.Tensor, hand_side: torch.Tensor) -> torch.Tensor:
        """Bone parameters (N, 21, 3), what the approach is trained to predict: see :func:`keypoints_from_chain`."""
        return self.pose_prior(maps, hand_side)

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """maps (N, 21, 32, 32) and hand_side (N, 2) to relative coordinates by forward kinematics."""
        return LiftingResult(keypoints_from_chain(self.chain(maps, hand_side)))


def _chain_axes(angles: torch.Tensor) -> torch.Tensor:
    """Rotation about y, then x, of a bone's frame in its parent's. angles: (..., 2) about x and y; (..., 3, 3)."""
    (cx, cy), (sx, sy) = torch.cos(angles).unbind(-1), torch.sin(angles).unbind(-1)
    zero = torch.zeros_like(cx)
    rows = [cy, sx * sy, cx * sy, zero, cx, -sx, -sy, sx * cy, cx * cy]
    return torch.stack(rows, -1).reshape(*angles.shape[:-1], 3, 3)


def keypoints_from_chain(chain: torch.Tensor) -> torch.Tensor:
    """Forward kinematics along the five fingers.

    chain: (N, 21, 3), for each keypoint the length of the bone that ends there and its angles about x
    and y, in radians, in the parent bone's frame, whose z axis runs along that bone; the first bones of
    the fingers turn in camera axes. The wrist's row is not used. Returns (N, 21, 3), wrist at zero.
    """
    bones = chain[:, 1:].reshape(chain.shape[0], len(FINGERS), 4, 3)
    axes = _chain_axes(bones[..., 1:])
    frame, ends = axes[:, :, 0], [bones[:, :, 0, :1] * axes[:, :, 0, :, 2]]
    for bone in range(1, 4):
        frame = frame @ axes[:, :, bone]
        ends.append(ends[-1] + bones[:, :, bone, :1] * frame[..., 2])
    fingers = torch.stack(ends, 2).flatten(1, 2)
    return torch.cat([torch.zeros_like(fingers[:, :1]), fingers], 1)


def chain_from_keypoints(relative: torch.Tensor) -> torch.Tensor:
    """Inverse of :func:`keypoints_from_chain`. relative: (N, 21, 3), wrist at zero; the wrist's row is zero."""
    fingers = relative[:, 1:].reshape(relative.shape[0], len(FINGERS), 4, 3)
    bones = torch.diff(fingers, dim=2, prepend=torch.zeros_like(fingers[:, :, :1]))
    frame = torch.eye(3, dtype=relative.dtype, device=relative.device).expand(*bones.shape[:2], 3, 3)
    rows = []
    for bone in range(4):
        x, y, z = (frame.transpose(-1, -2) @ bones[:, :, bone, :, None]).squeeze(-1).unbind(-1)
        angle_y = torch.atan2(x, z)
        angle_x = torch.atan2(-y, torch.hypot(x, z))
        rows.append(torch.stack([bones[:, :, bone].norm(dim=-1), angle_x, angle_y], -1))
        frame = frame @ _chain_axes(rows[-1][..., 1:])
    fingers = torch.stack(rows, 2).flatten(1, 2)
    return torch.cat([torch.zeros_like(fingers[:, :1]), fingers], 1)


class NearestNeighbourLifting(nn.Module):
    """The 3D pose of the library entry whose 2D keypoints are most like the score maps' (section 5.2, NN).

    poses: size of the library; :meth:`fit` fills it. Hands are kept and compared as left hands: right
    hands are mirrored on the way in and out, so that one library serves both.
    """

    library_2d: torch.Tensor
    library_relative: torch.Tensor

    def __init__(self, poses: int = 0) -> None:
        super().__init__()
        self.register_buffer("library_2d", torch.zeros(poses, NUM_KEYPOINTS * 2))
        self.register_buffer("library_relative", torch.zeros(poses, NUM_KEYPOINTS, 3))

    def fit(self, keypoints_2d: torch.Tensor, relative: torch.Tensor, hand_side: torch.Tensor) -> None:
        """Take a library: keypoints_2d (M, 21, 2) pixels of any crop, relative (M, 21, 3), hand_side (M, 2)."""
        every = torch.ones_like(keypoints_2d[..., 0])
        self.library_2d = _normalise_2d(_mirror_right(keypoints_2d, hand_side, axis=0), every).flatten(1)
        self.library_relative = _mirror_right(relative, hand_side, axis=0)

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """maps (N, 21, 32, 32) and hand_side (N, 2) to the relative coordinates of the nearest entries.

        Keypoints whose maps have no peak, as hidden ones, count in none of a hand's distances.
        """
        shown = (maps.flatten(2).amax(-1) > _SHOWN).to(maps.dtype)
        shown = torch.where(shown.sum(1, keepdim=True) > 1, shown, torch.ones_like(shown))
        query = _normalise_2d(_mirror_right(_peaks(maps), hand_side, axis=0), shown)
        library = self.library_2d.to(query.dtype).unflatten(1, (NUM_KEYPOINTS, 2))
        # Which entry, moved and scaled to the shown keypoints as the query is, lies nearest: the one with the largest
        # product, by its own spread over these keypoints.
        weight = (shown / shown.sum(1, keepdim=True)).unsqueeze(-1)
        mean = torch.einsum("nkd,mkd->nmd", weight.expand(-1, -1, 2), library)
        spread = weight[..., 0] @ library.square().sum(-1).T - mean.square().sum(-1)
        product = torch.einsum("nkd,mkd->nm", weight * query, library)
        nearest = (product / spread.clamp(min=1e-6).sqrt()).argmax(-1)
        return LiftingResult(_mirror_right(self.library_relative[nearest], hand_side, axis=0))


def _peaks(maps: torch.Tensor) -> torch.Tensor:
    """(u, v) of each map's peak, between pixels: the centre of what is positive within two pixels of the maximum."""
    height, width = maps.shape[-2:]
    best = maps.flatten(2).argmax(-1)
    v = torch.arange(height, device=maps.device)[:, None]
    u = torch.arange(width, device=maps.device)
    near = ((v - (best // width)[..., None, None]).abs() <= 2) & ((u - (best % width)[..., None, None]).abs() <= 2)
    weight = maps.clamp(min=1e-6) * near
    total = weight.sum((-2, -1))
    return torch.stack([(weight * u).sum((-2, -1)) / total, (weight * v).sum((-2, -1)) / total], -1)


_SHOWN = 0.1
"""Least peak of the map of a keypoint that is shown."""


def _normalise_2d(keypoints: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Keypoints (N, 21, 2), of which those that count, weight (N, 21), are centred and have a root mean square of one;
    the others are zero."""
    total, weight = weight.sum(1)[:, None, None], weight[..., None]
    centred = (keypoints - (weight * keypoints).sum(1, keepdim=True) / total) * weight
    spread = (centred.square().sum((1, 2), keepdim=True) / total).sqrt().clamp(min=1e-6)
    return centred / spread


LIFTINGS: dict[str, type[nn.Module]] = {
    "proposed": Lifting,
    "direct": DirectLifting,
    "bottleneck": BottleneckLifting,
    "local": LocalLifting,
    "nearest-neighbour": NearestNeighbourLifting,
}
"""The paper's comparison, by name."""
