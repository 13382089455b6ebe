"""Windows: the rotated squares of an image that networks read.

Angles are clockwise in the image and 0 where fingers point up; pixels have their centres at whole numbers.
"""

from __future__ import annotations

import math

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import FINGER_BASES, MIDDLE_MCP, WRIST

_SHORTEST_AXIS = 0.15
"""Share of the keypoints' extent below which a line across the palm is too short for a direction; set by hand."""
_FIT_ANGLE, _FIT_SIDE, _FIT_SHIFT = 0.4, 1.33, 0.12
"""Largest deviation of a window from the ideal one: radians, ratio of the edges, distance of the centres over the edge.
Training varies windows by about as much."""


def hand_angle(keypoints_px: np.ndarray) -> np.ndarray:
    """Angle by which a hand is turned clockwise in the image, radians; 0 when its fingers point up.

    keypoints_px: (..., 21, 2); returns (...). The direction is that from the wrist to the middle finger's base; seen
    end on, that to the mean of the four finger bases; 0 when that is too short as well.
    """
    shortest = _SHORTEST_AXIS * np.ptp(keypoints_px, axis=-2).max(axis=-1)
    wrist = keypoints_px[..., WRIST, :]
    lines = keypoints_px[..., MIDDLE_MCP, :] - wrist, keypoints_px[..., FINGER_BASES, :].mean(axis=-2) - wrist
    first, second = ((np.hypot(line[..., 0], line[..., 1]) > shortest)[..., None] * line for line in lines)
    direction = np.where(first.any(axis=-1, keepdims=True), first, second)
    u, v = direction[..., 0], direction[..., 1]
    return np.arctan2(u, np.where((u == 0) & (v == 0), 1, -v))


def crop_from_pose(keypoints_px: np.ndarray, size: int, margin: float) -> Crop:
    """Square window around a hand, turned so that the hand points up in it.

    Args:
        keypoints_px: (21, 2) image pixels.
        size: the crop's edge in its own pixels.
        margin: the window's edge over the larger extent of the keypoints, both measured along the window's axes.

    Returns:
        The window, centred on the keypoints' box along its axes.

    Raises:
        InvalidInputError: where a keypoint is not finite.
    """
    keypoints_px = np.asarray(keypoints_px, dtype=float)
    if keypoints_px.shape != (21, 2) or not np.all(np.isfinite(keypoints_px)):
        raise InvalidInputError(f"a crop needs 21 finite keypoints (21, 2), not an array {keypoints_px.shape}")
    angle = float(hand_angle(keypoints_px))
    c, s = np.cos(angle), np.sin(angle)
    image_from_window = np.array([[c, -s], [s, c]])
    window = keypoints_px @ image_from_window
    low, high = window.min(axis=0), window.max(axis=0)
    u, v = image_from_window @ (0.5 * (low + high))
    side = max(margin * float(np.max(high - low)), 1.0)
    return Crop(center=(float(u), float(v)), side=side, size=size, angle=angle)


def crop_upright(keypoints_px: np.ndarray, size: int, margin: float) -> Crop:
    """Square window around a hand, parallel to the image's edges, as the paper cuts it. Arguments as above."""
    low, high = keypoints_px.min(0), keypoints_px.max(0)
    center = (low + high) / 2
    return Crop((float(center[0]), float(center[1])), float(max(high - low)) * margin, size)


def crop_authors(center: np.ndarray, visible_px: np.ndarray, size: int) -> Crop:
    """Square window as the authors' code cuts it around a point (2,), here the middle finger's base.

    visible_px: (N, 2) visible keypoints; the largest distance of one along u or v is half the edge, of 50 to 500
    pixels, 200 without any; never enlarged more than ten times nor shrunk. Source: hand3d, BinaryDbReader.
    """
    edge = np.clip(2 * np.abs(visible_px - center).max(), 50, 500) if len(visible_px) else 200.0
    return Crop((float(center[0]), float(center[1])), float(size / np.clip(size / edge, 1, 10)), size)


def fits(crop: Crop, better: Crop) -> bool:
    """Whether a window is close enough to a better one to be read about as well."""
    turned = abs(math.remainder(better.angle - crop.angle, 2 * math.pi))
    resized = abs(math.log(better.side / crop.side))
    return (
        turned < _FIT_ANGLE
        and resized < math.log(_FIT_SIDE)
        and math.dist(better.center, crop.center) < _FIT_SHIFT * better.side
    )
