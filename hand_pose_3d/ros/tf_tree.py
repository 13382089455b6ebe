"""Transforms between frames from /tf and /tf_static, without tf2_ros, which is not on any Python package index.

Only the newest transforms are used, without interpolation to a stamp, so that the pose of a camera on a moving arm lags
by the age of its frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import LARGEST, InvalidInputError
from hand_pose_3d.turns import rotation_matrix


@dataclass(frozen=True, eq=False)
class Pose:
    """Rotation (3, 3) and translation (3,) metres of one frame in another. received_s: of its oldest moving part."""

    rotation: np.ndarray
    translation_m: np.ndarray
    received_s: float = float("inf")

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(
            self.rotation @ other.rotation,
            self.rotation @ other.translation_m + self.translation_m,
            min(self.received_s, other.received_s),
        )

    def inverse(self) -> Pose:
        """The other frame in this one."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation_m, self.received_s)


def pose(position: Any, quaternion_xyzw: Any, received_s: float = float("inf")) -> Pose:
    """A checked pose. Raises InvalidInputError for non-finite or huge numbers and invalid quaternions."""
    numbers = [float(number) for number in (*position, *quaternion_xyzw)]
    if not (all(abs(number) <= LARGEST for number in numbers) and 0.9 < math.hypot(*numbers[3:]) < 1.1):
        raise InvalidInputError(f"{numbers} is not a pose: position, then a quaternion of length 1")
    return Pose(np.array(rotation_matrix(*numbers[3:])), np.array(numbers[:3]), received_s)


class FrameTree:
    """The newest transform of every frame to its parent."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Pose]] = {}

    def add(self, transforms: Any, received_s: float, static: bool) -> str:
        """Add geometry_msgs/TransformStamped; returns messages about those that were left out."""
        wrong = ""
        for entry in transforms:
            t, q = entry.transform.translation, entry.transform.rotation
            child, parent = entry.child_frame_id.lstrip("/"), entry.header.frame_id.lstrip("/")
            try:
                placed = pose((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), float("inf") if static else received_s)
            except InvalidInputError as error:
                wrong = f"the transform of {child!r} is left out: {error}"
                continue
            self._parents[child] = (parent, placed)
        return wrong

    def find(self, target: str, source: str) -> Pose:
        """Pose of the source frame in the target frame. Raises InvalidInputError where they are not connected."""
        up_source, up_target = self._to_root(source.lstrip("/")), self._to_root(target.lstrip("/"))
        for frame, placed in up_target.items():
            if frame in up_source:
                return placed.inverse() @ up_source[frame]
        raise InvalidInputError(f"TF does not connect {source!r} to {target!r}: publish its pose in the robot's tree")

    def _to_root(self, frame: str) -> dict[str, Pose]:
        """Pose of the frame in itself and in every frame above it."""
        out = {frame: Pose(np.eye(3), np.zeros(3))}
        current = out[frame]
        while frame in self._parents:
            frame, placed = self._parents[frame]
            if frame in out:
                raise InvalidInputError(f"TF has a loop at {frame!r}")
            current = placed @ current
            out[frame] = current
        return out
