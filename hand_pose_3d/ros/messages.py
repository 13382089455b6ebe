"""HandPose records to ROS messages. Pure field copying; the numbers are those of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hand_pose_3d.errors import LARGEST, InvalidInputError
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.ros.tf_tree import pose
from hand_pose_3d.skeleton import Side
from hand_pose_3d.turns import quaternion


def stamp_seconds(stamp: Any) -> float | None:
    """Seconds of a builtin_interfaces/Time; None for the zero stamp, which means no stamp."""
    seconds = stamp.sec + 1e-9 * stamp.nanosec
    return seconds if seconds else None


def same_frame(one: str, other: str) -> bool:
    """Whether two names are of one frame: those of ROS 1 began with a slash."""
    return one.lstrip("/") == other.lstrip("/")


def check_finite(hand: HandPose) -> None:
    """Raise InvalidInputError for a known number of the record that is not finite, or huge."""
    known = hand.numbers
    if np.abs(np.concatenate([np.ravel(value) for value in known.values()])).max() <= LARGEST:
        return
    for name, value in known.items():  # which one it is
        if not np.abs(value).max() <= LARGEST:
            raise InvalidInputError(f"a hand's {name} is not finite, or huge")


def hand_message(hand: HandPose, header: Any, image_shape: tuple[int, ...]) -> Any:
    """HandPose3D of a hand in an image of image_shape (H, W, ...). Raises InvalidInputError for numbers not finite.

    Without metric placement keypoints and wrist position are zero and position_stddev is -1, as the message says: no
    number that is published is ever NaN.
    """
    from geometry_msgs.msg import Point, Quaternion

    from hand_pose_3d.msg import HandPose3D

    check_finite(hand)
    metric = hand.placed_m is not None
    keypoints_m = np.zeros((21, 3)) if hand.placed_m is None else hand.placed_m

    def points(rows: np.ndarray) -> list[Any]:
        return [Point(x=x, y=y, z=z) for x, y, z in np.asarray(rows, dtype=float).tolist()]

    def orientation(rotation: np.ndarray) -> Any:
        x, y, z, w = quaternion(rotation.tolist())
        return Quaternion(x=x, y=y, z=z, w=w)

    message = HandPose3D(header=header)
    message.track_id = int(hand.track_id) % 2**32
    message.side = int(hand.side)
    message.side_score = float(hand.side_score)
    message.score = float(hand.score)
    message.keypoint_scores = np.asarray(hand.keypoint_scores, dtype=np.float32)
    message.keypoints = points(keypoints_m)
    message.keypoints_2d = points(np.column_stack([hand.keypoints_px, np.zeros(21)]))
    message.keypoints_canonical = points(hand.keypoints_canonical)
    message.viewpoint = orientation(hand.rotation_camera_canonical)
    message.wrist.position = message.keypoints[0]
    message.wrist.orientation = orientation(hand.rotation_camera_wrist)
    message.scale_source = int(hand.scale_source) if metric else int(ScaleSource.NONE)
    message.scale = float(hand.scale_m) if metric else 0.0
    message.position_stddev = float(hand.position_stddev_m) if metric else -1.0

    height, width = image_shape[:2]
    x, y, w, h = hand.roi_px
    left, top = int(np.clip(x, 0, width)), int(np.clip(y, 0, height))
    right, bottom = int(np.clip(np.ceil(x + w), left, width)), int(np.clip(np.ceil(y + h), top, height))
    message.roi.x_offset, message.roi.y_offset = left, top
    message.roi.width, message.roi.height = right - left, bottom - top
    return message


def hand_from_message(message: Any) -> HandPose:
    """The record of a HandPose3D, from ROS or from a recording that was read without ROS.

    Raises InvalidInputError for a message that is not of a hand.
    """

    def array(points: Sequence[Any]) -> np.ndarray:
        return np.array([(p.x, p.y, p.z) for p in points], dtype=float)

    q, roi = message.viewpoint, message.roi
    try:
        source, side = ScaleSource(message.scale_source), Side(message.side)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    hand = HandPose.from_canonical(
        side,
        array(message.keypoints_2d)[:, :2],
        array(message.keypoints_canonical),
        pose((0, 0, 0), (q.x, q.y, q.z, q.w)).rotation,
        side_score=float(message.side_score),
        score=float(message.score),
        keypoint_scores=np.array(message.keypoint_scores, dtype=float),
        roi_px=(float(roi.x_offset), float(roi.y_offset), float(roi.width), float(roi.height)),
        track_id=int(message.track_id),
        keypoints_m=None if source == ScaleSource.NONE else array(message.keypoints),
        scale_source=source,
        scale_m=float(message.scale),
        position_stddev_m=float("nan") if source == ScaleSource.NONE else float(message.position_stddev),
    )
    check_finite(hand)
    return hand


def joint_state(angles: Sequence[tuple[str, Mapping[str, float]]], header: Any) -> Any:
    """One JointState of all hands: (name of the hand, its angles in radians by joint) give `hand_joint`."""
    from sensor_msgs.msg import JointState

    message = JointState(header=header)
    for hand, joints in angles:
        message.name.extend(f"{hand}_{joint}" for joint in joints)
        message.position.extend(float(angle) for angle in joints.values())
    return message
