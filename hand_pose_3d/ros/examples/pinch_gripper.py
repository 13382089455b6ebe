"""Open and close a gripper by pinching thumb and index finger.

``python -m hand_pose_3d.ros.examples.pinch_gripper --side right`` listens to /hand_pose_3d/hands and publishes the
gripper's opening on /gripper_controller/commands (std_msgs/Float64MultiArray, as forward_command_controller takes it).
A lost hand leaves the gripper as it is, and a returning hand moves it no faster than --speed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError, check_numbers
from hand_pose_3d.hands import HandPose
from hand_pose_3d.ros.examples.follow import SIDES, follow_hand
from hand_pose_3d.ros.messages import stamp_seconds
from hand_pose_3d.ros.share import options_of, own_arguments
from hand_pose_3d.skeleton import INDEX_TIP, THUMB_TIP


@dataclass(frozen=True)
class PinchConfig:
    """Distances between the fingertips are in reference bones (about 4 cm), so that no camera calibration is needed."""

    closed: float = 0.6  # fingertips touch: their keypoints lie inside the pulps
    opened: float = 2.6  # fingertips this far apart or more open the gripper fully
    max_opening_m: float = 0.08
    speed_m_s: float = 0.15
    min_keypoint_score: float = 0.3


class PinchGripper:
    """The gripper opening for a pinch. Call it with every hand; without a hand it keeps its value."""

    def __init__(self, config: PinchConfig | None = None) -> None:
        self.config = config or PinchConfig()
        self.opening_m = self.config.max_opening_m
        self._stamp_s: float | None = None

    def __call__(self, keypoints_canonical: np.ndarray, keypoint_scores: np.ndarray, stamp_s: float) -> float:
        """Opening in metres. keypoints_canonical: (21, 3); keypoint_scores: (21,); hidden fingertips change nothing."""
        c = self.config
        elapsed = 0.0 if self._stamp_s is None else stamp_s - self._stamp_s
        self._stamp_s = stamp_s
        tips = keypoints_canonical[[THUMB_TIP, INDEX_TIP]]
        if not np.isfinite(tips).all() or min(keypoint_scores[THUMB_TIP], keypoint_scores[INDEX_TIP]) < (
            c.min_keypoint_score
        ):
            return self.opening_m
        share = (float(np.linalg.norm(tips[0] - tips[1])) - c.closed) / (c.opened - c.closed)
        wanted = c.max_opening_m * min(max(share, 0.0), 1.0)
        # The gripper does not move while there is no hand.
        step = c.speed_m_s * min(max(elapsed, 0.0), 0.1)
        self.opening_m += min(max(wanted - self.opening_m, -step), step)
        return self.opening_m


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until interrupted."""
    parser = options_of("pinch_gripper", __doc__)
    parser.add_argument("--side", choices=SIDES, default="any", help="hand to obey")
    parser.add_argument("--hands", default="/hand_pose_3d/hands", help="topic of the hands")
    parser.add_argument("--commands", default="/gripper_controller/commands", help="topic of the gripper")
    parser.add_argument(
        "--max-opening", type=float, default=PinchConfig.max_opening_m, help="opening of an open hand, metres"
    )
    parser.add_argument(
        "--speed", type=float, default=PinchConfig.speed_m_s, help="most speed of the opening, metres a second"
    )
    options = parser.parse_args(own_arguments(arguments))

    from std_msgs.msg import Float64MultiArray

    try:
        check_numbers({"--max-opening": options.max_opening, "--speed": options.speed}, positive=True)
    except HandPoseError as error:
        print(f"pinch_gripper: {error}", file=sys.stderr)
        return 1
    gripper = PinchGripper(PinchConfig(max_opening_m=options.max_opening, speed_m_s=options.speed))

    def command(hand: HandPose, header: Any) -> Float64MultiArray:
        stamp_s = stamp_seconds(header.stamp) or time.monotonic()  # some cameras stamp nothing
        opening = gripper(hand.keypoints_canonical, hand.keypoint_scores, stamp_s)
        return Float64MultiArray(data=[opening])

    return follow_hand("pinch_gripper", options, Float64MultiArray, options.commands, command)


if __name__ == "__main__":
    sys.exit(main())
