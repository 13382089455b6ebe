"""What the examples share: a node that follows one hand and turns it into commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SIDES = ("any", "left", "right")
"""Names by HandPose3D.SIDE_*; 0 for any."""


def choose(hands: Sequence[Any], side: int, track_id: int | None) -> Any | None:
    """The hand to obey: the one obeyed so far, else the best of that side (HandPose3D.SIDE_*; 0 for any)."""
    fitting = [hand for hand in hands if side in (0, hand.side)]
    same = [hand for hand in fitting if hand.track_id == track_id]
    return (same or fitting or [None])[0]


def points(message_points: Sequence[Any]) -> np.ndarray:
    """(N, 3) of geometry_msgs/Point."""
    return np.array([(p.x, p.y, p.z) for p in message_points])


def follow_hand(
    name: str, hands: str, side: str, kind: type, topic: str, command: Callable[[Any, Any], Any | None]
) -> None:
    """Run a node until it is interrupted: it publishes `command(hand, header)` on a topic of messages of that kind.

    name: of the node; hands: topic of HandPose3DArray; side: one of SIDES. Without a hand, and where command returns
    None, nothing is published.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException

    from hand_pose_3d.msg import HandPose3DArray

    rclpy.init(args=None)
    try:
        node = rclpy.create_node(name)
        publisher: Any = node.create_publisher(kind, topic, 10)
        track_id: int | None = None

        def follow(message: HandPose3DArray) -> None:
            nonlocal track_id
            hand = choose(message.hands, SIDES.index(side), track_id)
            if hand is None:
                return
            track_id = hand.track_id
            answer = command(hand, message.header)
            if answer is not None:
                publisher.publish(answer)

        node.create_subscription(HandPose3DArray, hands, follow, 1)
        node.get_logger().info(f"following {side} hands on {hands}")
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
