"""Hands over time: identities, crops for the next frame, smoothing."""

from __future__ import annotations

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import MIDDLE_MCP, WRIST

_FINGER_BASES = (5, 9, 13, 17)
_SHORTEST_AXIS = 0.15
"""Share of the keypoints' extent below which a line across the palm is too short to give a direction."""


def hand_angle(keypoints_px: np.ndarray) -> float:
    """Angle by which a hand is turned clockwise in the image, radians; 0 when its fingers point up.

    keypoints_px: (21, 2). The direction is that from the wrist to the middle finger's base; seen end on,
    that to the mean of the four finger bases; 0 when that is too short as well.
    """
    extent = np.max(np.ptp(keypoints_px, axis=0))
    for target in (keypoints_px[MIDDLE_MCP], keypoints_px[_FINGER_BASES, :].mean(axis=0)):
        u, v = target - keypoints_px[WRIST]
        if np.hypot(u, v) > _SHORTEST_AXIS * extent:
            return float(np.arctan2(u, -v))
    return 0.0


def crop_from_pose(keypoints_px: np.ndarray, size: int, margin: float) -> Crop:
    """Square window around a hand, turned so that the hand points up in it.

    keypoints_px: (21, 2) image pixels; size: the crop's edge in its own pixels; margin: window's edge over the
    larger extent of the keypoints, both measured along the window's axes. Raises InvalidInputError when a
    keypoint is not finite.
    """
    keypoints_px = np.asarray(keypoints_px, dtype=float)
    if keypoints_px.shape != (21, 2) or not np.all(np.isfinite(keypoints_px)):
        raise InvalidInputError(f"a crop needs 21 finite keypoints (21, 2), not an array {keypoints_px.shape}")
    angle = hand_angle(keypoints_px)
    c, s = np.cos(angle), np.sin(angle)
    image_from_window = np.array([[c, -s], [s, c]])
    window = keypoints_px @ image_from_window
    low, high = window.min(axis=0), window.max(axis=0)
    u, v = image_from_window @ (0.5 * (low + high))
    side = max(margin * float(np.max(high - low)), 1.0)
    return Crop(center=(float(u), float(v)), side=side, size=size, angle=angle)
