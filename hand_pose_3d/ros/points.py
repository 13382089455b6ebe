"""All keypoints of an image as one PointCloud2, built by sensor_msgs_py where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import NUM_KEYPOINTS

FIELDS = ("x", "y", "z", "keypoint", "track_id", "score")
"""All float32: sensor_msgs_py has versions that give every field the type of the first."""


def cloud_builder() -> Callable[..., Any] | None:
    """sensor_msgs_py's create_cloud(header, fields, points), None where that is not installed."""
    try:
        from sensor_msgs_py.point_cloud2 import create_cloud
    except ImportError:
        return None
    return create_cloud


def cloud(hands: Sequence[HandPose], header: Any, create_cloud: Callable[..., Any]) -> Any:
    """A sensor_msgs/PointCloud2 of the hands that are placed, 21 points each in metres; empty without one."""
    from sensor_msgs.msg import PointField

    fields = [
        PointField(name=name, offset=4 * n, datatype=PointField.FLOAT32, count=1) for n, name in enumerate(FIELDS)
    ]
    numbers = np.arange(NUM_KEYPOINTS)
    rows = [
        np.column_stack([hand.placed_m, numbers, np.full(NUM_KEYPOINTS, hand.track_id), hand.keypoint_scores])
        for hand in hands
        if hand.placed_m is not None
    ]
    points = np.concatenate(rows) if rows else np.empty((0, len(FIELDS)))
    return create_cloud(header, fields, points.astype(np.float32))
