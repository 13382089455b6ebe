"""The networks, pure ``nn.Module``s: tensors in, tensors out, each built without arguments."""

from hand_pose_3d.networks.hand_seg_net import HandSegNet
from hand_pose_3d.networks.lifting import (
    BottleneckLifting,
    DirectLifting,
    Lifting,
    LiftingResult,
    LocalLifting,
    NearestNeighbourLifting,
)
from hand_pose_3d.networks.pose_net import PoseNet
from hand_pose_3d.networks.pose_prior import PosePrior, ViewpointNet, rotation_from_axis_angle

__all__ = [
    "BottleneckLifting",
    "DirectLifting",
    "HandSegNet",
    "Lifting",
    "LiftingResult",
    "LocalLifting",
    "NearestNeighbourLifting",
    "PoseNet",
    "PosePrior",
    "ViewpointNet",
    "rotation_from_axis_angle",
]
