"""Shared by the examples: a node that follows one hand and publishes commands."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from hand_pose_3d.errors import HandPoseError, InvalidInputError, one_line
from hand_pose_3d.hands import HandPose
from hand_pose_3d.ros import start
from hand_pose_3d.ros.messages import hand_from_message
from hand_pose_3d.ros.share import ros_arguments
from hand_pose_3d.ros.typed_parameters import option_names, warn_of_unknown

_LOST_AFTER_S = 0.5
"""A hand that is not seen for this long makes way for another one."""

SIDES = ("any", "left", "right")
"""Names by HandPose3D.SIDE_*; 0 for any."""


def choose(hands: Sequence[Any], side: int, track_id: int | None) -> Any | None:
    """The hand to follow: the one followed so far, else the best of that side (HandPose3D.SIDE_*; 0 for any)."""
    fitting = [hand for hand in hands if side in (0, hand.side)]
    same = [hand for hand in fitting if hand.track_id == track_id]
    return (same or fitting or [None])[0]


class Follower:
    """Keeps to one hand: another one counts once that has not been seen for a while."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._track_id: int | None = None
        self._seen_s = -math.inf

    def __call__(self, hands: Sequence[Any], now_s: float) -> Any | None:
        """The hand of these that counts now, if any."""
        hand = choose(hands, self.side, self._track_id)
        if hand is None or (hand.track_id != self._track_id and now_s - self._seen_s < _LOST_AFTER_S):
            return None
        self._track_id, self._seen_s = hand.track_id, now_s
        return hand


def follow_hand(
    name: str, options: argparse.Namespace, kind: type, topic: str, command: Callable[[HandPose, Any], Any]
) -> int:
    """Run a node until it is interrupted: it publishes `command(hand, header)` on a topic of messages of that kind.

    name: of the node; options: hands, the topic of HandPose3DArray, and side, one of SIDES. Without a hand
    nothing is published. Returns the exit status.
    """
    import rclpy

    from hand_pose_3d.msg import HandPose3DArray

    try:
        with start.process(ros_arguments(None)):
            node = rclpy.create_node(name)
            warn_of_unknown(node, option_names(options))
            publisher: Any = node.create_publisher(kind, topic, 10)
            followed = Follower(SIDES.index(options.side))

            def follow(message: HandPose3DArray) -> None:
                hand = followed(message.hands, time.monotonic())
                if hand is None:
                    return
                try:
                    publisher.publish(command(hand_from_message(hand), message.header))
                except InvalidInputError as error:
                    node.get_logger().warning(f"hand left out: {error}", throttle_duration_sec=5.0)

            node.create_subscription(HandPose3DArray, options.hands, follow, 1)
            node.get_logger().info(f"following {options.side} hands on {options.hands}")
            rclpy.spin(node)
    except HandPoseError as error:
        print(f"{name}: {one_line(str(error).splitlines()[0])}", file=sys.stderr)
        return 1
    return 0
