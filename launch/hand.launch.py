"""Starts the node, and with it a source of images and RViz where they are asked for.

ros2 launch hand_pose_3d hand.launch.py image:=/camera/image_raw
ros2 launch hand_pose_3d hand.launch.py source:=clip rviz:=true

What is started is decided, and what the arguments mean is said, in hand_pose_3d/ros/launching.py.
"""

from hand_pose_3d.ros.launch_file import description
from hand_pose_3d.ros.launching import ARGUMENTS, plan


def generate_launch_description():
    """The launch description, with every argument described."""
    return description(ARGUMENTS, plan)
