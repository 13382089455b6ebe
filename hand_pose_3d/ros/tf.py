"""Hands as frames on /tf.

Uses only tf2's message: tf2_ros is not on any Python package index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import WRIST
from hand_pose_3d.turns import quaternion


def message_type() -> Any | None:
    """tf2_msgs/TFMessage, or None where tf2_msgs is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage


def transforms(hands: Sequence[HandPose], names: Sequence[str], header: Any) -> list[Any]:
    """A TransformStamped for each placed hand.

    The parent is the image's frame, the rotation the viewpoint, the translation the wrist. Hands without metric
    placement have no translation, and so no frame.
    """
    from geometry_msgs.msg import TransformStamped

    out = []
    for hand, name in zip(hands, names, strict=True):
        if hand.placed_m is None:
            continue
        transform = TransformStamped(header=header, child_frame_id=name)
        x, y, z = hand.placed_m[WRIST].tolist()
        transform.transform.translation.x, transform.transform.translation.y = x, y
        transform.transform.translation.z = z
        q = transform.transform.rotation
        q.x, q.y, q.z, q.w = quaternion(hand.rotation_camera_canonical.tolist())
        out.append(transform)
    return out
