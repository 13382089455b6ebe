"""Starts the hand tracker as hand.launch.py does, and hand_teleop, which turns a hand into targets for a robot.

ros2 launch hand_pose_3d teleop.launch.py image:=/camera/image_raw base_frame:=base_link effector_frame:=tool0
ros2 launch hand_pose_3d teleop.launch.py source:=clip camera_from:=stated

Read docs/teleoperation.md first. What is started is decided in hand_pose_3d/ros/launching.py.
"""

from hand_pose_3d.ros.launch_file import description
from hand_pose_3d.ros.launching import TELEOP_ARGUMENTS, plan_teleop


def generate_launch_description():
    """The launch description, with every argument described."""
    return description(TELEOP_ARGUMENTS, plan_teleop)
