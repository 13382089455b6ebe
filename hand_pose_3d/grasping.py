"""A hand's pinch for a grasping robot: point, approach direction, opening, and their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import INDEX_TIP, THUMB_TIP, WRIST

_MAX_COORDINATE_M = 1000.0
"""Metres; a hand cannot be seen from farther, and squares of larger numbers may overflow."""


@dataclass(frozen=True, eq=False)
class Grasp:
    """A pinch of thumb and index finger, in metres in some frame.

    point_m: (3,) halfway between the fingertips. rotation: (3, 3), x the approach (from the wrist to the point), y the
    closing direction (from the thumb's tip to the index finger's, made orthogonal to x), z = x cross y.
    opening_m: distance of the fingertips' keypoints, which lie inside the pulps: about 25 mm when they touch.
    score: the lower of both fingertips' scores. The deviations are one standard deviation.
    """

    point_m: np.ndarray
    rotation: np.ndarray
    opening_m: float
    score: float
    point_stddev_m: float
    opening_stddev_m: float
    approach_stddev_rad: float
    roll_stddev_rad: float

    def moved(self, rotation: np.ndarray, translation_m: np.ndarray) -> Grasp:
        """The same grasp in another frame, given the pose of this frame in it."""
        return Grasp(
            rotation @ self.point_m + translation_m,
            rotation @ self.rotation,
            self.opening_m,
            self.score,
            self.point_stddev_m,
            self.opening_stddev_m,
            self.approach_stddev_rad,
            self.roll_stddev_rad,
        )

    def covariance(self) -> np.ndarray:
        """(6, 6) of position and of rotation about the axes of the frame, as geometry_msgs has it."""
        out = np.zeros((6, 6))
        out[:3, :3] = np.eye(3) * self.point_stddev_m**2
        turns = np.array([self.roll_stddev_rad, self.approach_stddev_rad, self.approach_stddev_rad]) ** 2
        out[3:, 3:] = (self.rotation * turns) @ self.rotation.T
        return out


def keypoint_stddev_m(scores: np.ndarray, size_m: float) -> np.ndarray:
    """One standard deviation per axis of keypoints, from their scores: P(error < a tenth of the hand's size).

    For an error that is normal in both directions of the image, P = 1 - exp(-r^2 / 2 sigma^2).
    """
    known = np.clip(scores, 0.01, 0.999)
    return 0.1 * size_m / np.sqrt(-2 * np.log(1 - known))


def placed_keypoints(hand: HandPose) -> np.ndarray:
    """Keypoints (21, 3) in metres. Raises InvalidInputError for a hand without plausible ones."""
    if hand.placed_m is None:
        raise InvalidInputError("the hand has no metric scale: is CameraInfo published?")
    points = np.asarray(hand.placed_m, dtype=float)
    if not (np.isfinite(points).all() and np.isfinite(hand.keypoint_scores).all()):
        raise InvalidInputError("a keypoint is not finite")
    if max(np.abs(points).max(), abs(hand.position_stddev_m)) > _MAX_COORDINATE_M:
        raise InvalidInputError(f"the hand lies more than {_MAX_COORDINATE_M:g} m away")
    return points


def pinch_score(hand: HandPose) -> float:
    """The lower of both fingertips' scores."""
    return float(min(hand.keypoint_scores[THUMB_TIP], hand.keypoint_scores[INDEX_TIP]))


def grasp_of(hand: HandPose) -> Grasp:
    """The pinch of a hand in the camera frame. Raises InvalidInputError for a hand without plausible metres."""
    points = placed_keypoints(hand)
    thumb, index = points[THUMB_TIP], points[INDEX_TIP]
    middle, opening = 0.5 * (thumb + index), float(np.linalg.norm(index - thumb))
    reach = float(np.linalg.norm(middle - points[WRIST]))
    if reach < 1e-3:
        raise InvalidInputError("the fingertips lie on the wrist")
    ahead = (middle - points[WRIST]) / reach
    across = (index - thumb) - ((index - thumb) @ ahead) * ahead
    if np.linalg.norm(across) < 1e-6:  # closed: any perpendicular direction will do; roll_stddev_rad is large
        across = np.cross(ahead, np.eye(3)[np.argmin(np.abs(ahead))])
    across /= np.linalg.norm(across)

    size = float(np.ptp(points[:, :2], axis=0).max())
    first, second = keypoint_stddev_m(np.asarray(hand.keypoint_scores)[[THUMB_TIP, INDEX_TIP]], size)
    apart = math.hypot(first, second)
    position = hand.position_stddev_m if math.isfinite(hand.position_stddev_m) else 0.0
    # A relative error of the distance is the same relative error of every length.
    scale = max(position, 0.0) / max(float(np.linalg.norm(points[WRIST])), 1e-3)
    return Grasp(
        point_m=middle,
        rotation=np.stack([ahead, across, np.cross(ahead, across)], axis=1),
        opening_m=opening,
        score=pinch_score(hand),
        point_stddev_m=math.hypot(max(position, 0.0) / math.sqrt(3), apart / 2),  # per axis
        opening_stddev_m=math.hypot(apart, scale * opening),
        approach_stddev_rad=min(apart / 2 / reach, math.pi),
        roll_stddev_rad=min(apart / max(opening, 1e-6), math.pi),
    )
