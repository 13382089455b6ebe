"""Parameters of the node hand_teleop: those of teleoperation itself, and those that only ROS needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.settings import number, setting
from hand_pose_3d.teleoperation_config import TeleoperationConfig

ROBOT_HANDS = ("allegro", "shadow", "svh", "leap", "ability", "inspire", "panda")
"""Names of dex-retargeting."""


def _length(default: float, text: str, name: str, reach: float) -> Any:
    return setting(default, text, name=name, unit="m", low=-reach, high=reach)


def _angle(text: str, name: str) -> Any:
    return setting(0.0, text, name=name, unit="rad", low=-7.0, high=7.0)


@dataclass(frozen=True)
class TeleopParameters(TeleoperationConfig):
    """Everything that can be set on the node, read once at its start."""

    base_frame: str = setting("base_link", "The robot's base frame, in which the target is given.")
    effector_frame: str = setting(
        "", "Frame of the robot's effector on TF: the target starts from there each time. Empty: from start.*."
    )
    start_x_m: float = _length(0.45, "Without effector_frame: where the target starts.", "start.x", 10.0)
    start_y_m: float = _length(0.0, "The same.", "start.y", 10.0)
    start_z_m: float = _length(0.3, "The same.", "start.z", 10.0)
    start_roll_rad: float = _angle("The same, rotation about the base frame's x first.", "start.roll")
    start_pitch_rad: float = _angle("Then about its y.", "start.pitch")
    start_yaw_rad: float = _angle("Then about its z.", "start.yaw")

    camera_from: str = setting(
        "tf",
        "Where the camera's pose in the base frame comes from: TF, or the camera.* below.",
        choices=("tf", "stated"),
    )
    camera_x_m: float = _length(0.0, "Stated pose of the camera's optical frame.", "camera.x", 100.0)
    camera_y_m: float = _length(0.0, "The same.", "camera.y", 100.0)
    camera_z_m: float = _length(0.0, "The same.", "camera.z", 100.0)
    camera_roll_rad: float = _angle("The same, rotation about the base frame's x first.", "camera.roll")
    camera_pitch_rad: float = _angle("Then about its y.", "camera.pitch")
    camera_yaw_rad: float = _angle("Then about its z.", "camera.yaw")
    max_transform_age_s: float = number(
        0.5, "Moving frames that did not come for longer are not used.", "max_transform_age", "s", 0.01, 10.0
    )

    clutch_pinch: bool = setting(True, "The other hand's pinch, held, closes the clutch.", name="clutch.pinch")
    clutch_joy_button: int = number(
        -1, "Button of sensor_msgs/Joy that closes the clutch while held; -1: none.", "clutch.joy_button", "", -1, 100
    )

    gripper_joint: str = setting("gripper", "Joint named in the gripper's JointTrajectory.", name="gripper.joint")
    gripper_max_effort: float = number(
        0.0,
        "Most effort in control_msgs/GripperCommand; 0 leaves it to the gripper.",
        "gripper.max_effort",
        "",
        0.0,
        1000.0,
    )

    robot_hand: str = setting(
        "", f"Robot hand, by dex-retargeting: plain, {', '.join(ROBOT_HANDS)}, or a configuration file; empty: none."
    )
    robot_hand_urdf_folder: str = setting(
        "", "Folder of dex-retargeting's robot descriptions (dex-urdf).", name="robot_hand_urdf"
    )
    robot_hand_speed_rad_s: float = number(
        3.0, "Most speed of the robot hand's joints.", "robot_hand_speed", "rad/s", 0.01, 30.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base_frame:
            raise InvalidInputError("base_frame must not be empty: name the robot's base frame")
        start_m = np.array([self.start_x_m, self.start_y_m, self.start_z_m])
        low_m, high_m = self.box_m
        if not self.effector_frame and ((start_m < low_m) | (start_m > high_m)).any():
            raise InvalidInputError(
                f"start.* {tuple(start_m.tolist())} lies outside workspace.*: choose another, or name effector_frame"
            )
