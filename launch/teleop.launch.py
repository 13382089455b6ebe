"""Starts the hand tracker as hand.launch.py does, and hand_teleop, which turns a hand into targets for a robot.

ros2 launch hand_pose_3d teleop.launch.py image:=/camera/image_raw base_frame:=base_link effector_frame:=tool0
ros2 launch hand_pose_3d teleop.launch.py source:=clip camera_from:=stated

Read docs/teleoperation.md first. What is started is decided in hand_pose_3d/ros/launching.py.
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from hand_pose_3d.ros.launching import TELEOP_ARGUMENTS, plan_teleop
from launch import LaunchDescription


def _actions(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in TELEOP_ARGUMENTS}
    share = Path(FindPackageShare("hand_pose_3d").perform(context))
    wanted = plan_teleop(values, share, os.environ, _installed("rviz2"))
    return [
        *(SetEnvironmentVariable(name, value) for name, value in wanted.environment.items()),
        *(LogInfo(msg=note) for note in wanted.notes),
        *(_node(program) for program in wanted.programs),
    ]


def _node(program):
    return Node(
        package="hand_pose_3d",
        executable=program.executable,
        name=program.name,
        namespace=program.namespace,
        parameters=[entry if isinstance(entry, str) else _exact(entry) for entry in program.parameters],
        remappings=list(program.remappings),
        arguments=list(program.arguments),
        output="screen",
        on_exit=Shutdown(reason=f"{program.name} has ended") if program.needed else None,
    )


def _exact(parameters):
    """Texts stay texts: launch would make a number of a camera's "0"."""
    return {k: ParameterValue(v, value_type=str) if isinstance(v, str) else v for k, v in parameters.items()}


def _installed(package):
    try:
        return bool(get_package_prefix(package))
    except PackageNotFoundError:
        return False


def generate_launch_description():
    """The launch description, with every argument described."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in TELEOP_ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_actions)])
