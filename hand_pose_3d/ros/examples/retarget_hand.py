"""Drive a robot hand with one's own, by dex-retargeting (pip install dex-retargeting six).

``python -m hand_pose_3d.ros.examples.retarget_hand --side right`` listens to /hand_pose_3d/hands and publishes the
robot's joints on /robot_hand/joint_states. Without --config it drives a plain five-fingered model of human size that
it makes itself (--write-urdf shows it); with --config and --urdf-dir any hand of dex-retargeting's configurations,
such as teleop/allegro_hand_right.yml. A lost hand leaves the robot as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import HandPoseError, one_line
from hand_pose_3d.hands import HandPose
from hand_pose_3d.outputs import write_beside
from hand_pose_3d.retargeting import HandRetargeter, plain_hand_urdf
from hand_pose_3d.ros.examples.follow import SIDES, follow_hand
from hand_pose_3d.ros.share import options_of, own_arguments
from hand_pose_3d.skeleton import Side


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until interrupted."""
    parser = options_of("retarget_hand", __doc__)
    parser.add_argument("--side", choices=SIDES[1:], default="right", help="hand to follow")
    parser.add_argument("--hands", default="/hand_pose_3d/hands", help="topic of the hands")
    parser.add_argument("--joints", default="/robot_hand/joint_states", help="topic of the robot's joints")
    parser.add_argument("--config", type=Path, help="configuration of dex-retargeting; the plain model without")
    parser.add_argument("--urdf-dir", type=Path, help="folder that the configuration's URDF is relative to")
    parser.add_argument("--write-urdf", type=Path, metavar="FILE", help="write the plain model and end")
    options = parser.parse_args(own_arguments(arguments))
    side = Side[options.side.upper()]
    try:
        if options.write_urdf:
            print(write_beside(options.write_urdf, plain_hand_urdf(side).encode()))
            return 0
        retargeter = HandRetargeter(side, options.config, options.urdf_dir)
    except ImportError as error:
        print(f"retarget_hand: needs dex-retargeting (pip install dex-retargeting six): {error}", file=sys.stderr)
        return 1
    except HandPoseError as error:
        print(f"retarget_hand: {one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"retarget_hand: {one_line(options.write_urdf)} cannot be used: {one_line(error)}", file=sys.stderr)
        return 1

    from sensor_msgs.msg import JointState

    def command(hand: HandPose, header: Any) -> JointState:
        joints = retargeter(hand.keypoints_canonical)
        return JointState(header=header, name=list(joints), position=list(joints.values()))

    return follow_hand("retarget_hand", options, JointState, options.joints, command)


if __name__ == "__main__":
    sys.exit(main())
