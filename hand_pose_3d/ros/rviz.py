"""Opens RViz after the first processed image: with its frame as fixed frame, and a view of the hands.

ros2 run hand_pose_3d rviz_hands [--config FILE] [RViz's own arguments]
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.outputs import replacing
from hand_pose_3d.ros import start
from hand_pose_3d.ros.share import find_share, options_of, own_arguments, ros_arguments

_HANDS = "/hand_pose_3d/hands"
_PATIENCE_S = 3.0
"""Time after the first image to wait for a hand in metres, before the view of the configuration file is used."""
_LOG_EVERY_S = 10.0  # time without an image after which a message is logged
_SHARE_OF_VIEW = 0.4  # of the picture's height that hands take up, chosen by eye
_HALF_VIEW = float(np.tan(np.radians(22.5)))
"""Tangent of half of RViz's vertical field of view, 45 degrees."""


def framed(config: dict[str, Any], frame_id: str, points_m: np.ndarray) -> dict[str, Any]:
    """An RViz configuration, changed: fixed frame, and a view at points (N, 3) in metres; none leave the view."""
    manager = config["Visualization Manager"]
    if frame_id:
        manager["Global Options"]["Fixed Frame"] = frame_id
    if len(points_m):
        low, high = points_m.min(axis=0), points_m.max(axis=0)
        view, middle = manager["Views"]["Current"], (low + high) / 2
        view["Focal Point"] = dict(zip("XYZ", middle.tolist(), strict=True))
        size = float(np.linalg.norm(high - low))
        view["Distance"] = min(max(size / (2 * _HALF_VIEW * _SHARE_OF_VIEW), 0.2), 5.0)
    return config


def _points(message: Any) -> np.ndarray:
    """Keypoints (N, 3) in metres of the placed hands of a HandPose3DArray."""
    placed = [hand for hand in message.hands if hand.scale_source]
    return np.array([(p.x, p.y, p.z) for hand in placed for p in hand.keypoints]).reshape(-1, 3)


def _first(arguments: Sequence[str]) -> tuple[str, np.ndarray] | None:
    """Frame of the first processed image, and the hands' points in it; None if interrupted."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data

    from hand_pose_3d.msg import HandPose3DArray

    with start.process(ros_arguments(arguments)):
        node = rclpy.create_node("rviz_hands")
        got: list[Any] = []
        node.create_subscription(HandPose3DArray, _HANDS, got.append, qos_profile_sensor_data)
        logged = time.monotonic()
        while not got:
            rclpy.spin_once(node, timeout_sec=0.2)
            if time.monotonic() - logged > _LOG_EVERY_S:
                logged = time.monotonic()
                topic = node.resolve_topic_name(_HANDS)
                node.get_logger().info(f"RViz opens when the first image has been processed: nothing on {topic} yet")
        frame_id = got[0].header.frame_id
        if not frame_id:
            node.get_logger().warning("images have no frame_id: RViz can show them, but no hands in space")
        end = time.monotonic() + _PATIENCE_S
        while not len(_points(got[-1])) and time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.1)
        return frame_id, _points(got[-1])
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait for an image, then become RViz. Returns the exit status if that is not possible."""
    import yaml

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = options_of("rviz_hands", __doc__)
    parser.add_argument("--config", type=Path, help="RViz configuration; default: that of this package")
    options, others = parser.parse_known_args(own_arguments(arguments))
    try:
        path = options.config or find_share("config/hand_pose_3d.rviz")
        if path is None or not path.is_file():
            raise InvalidInputError(f"there is no RViz configuration {path or 'config/hand_pose_3d.rviz'}")
        if shutil.which("rviz2") is None:
            raise InvalidInputError("rviz2 is not installed: sudo apt install ros-$ROS_DISTRO-rviz2")
        first = _first(arguments)
        if first is None:
            return 0
        config = framed(yaml.safe_load(path.read_text(encoding="utf-8")), *first)
    except HandPoseError as error:
        print(f"rviz_hands: {error}", file=sys.stderr)
        return 1
    name = Path(tempfile.gettempdir()) / f"hand_pose_3d_{os.getuid()}.rviz"  # one file, however often it is started
    with replacing(name) as file:
        file.write(yaml.safe_dump(config).encode())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp("rviz2", ["rviz2", "-d", str(name), *others, *ros_arguments(arguments)])
    return 1


if __name__ == "__main__":
    sys.exit(main())
