"""The ROS 2 shell around the library: the only folder that imports rclpy."""

import sys

from hand_pose_3d import interrupts

# `python -m hand_pose_3d.ros.NAME`, and not a user's program that imports from here.
if sys.argv[:1] == ["-m"] and any(word.startswith("hand_pose_3d.ros.") for word in sys.orig_argv):
    interrupts.end_quietly()
