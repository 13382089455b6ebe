"""Parameters of the node hand_teleop: those of teleoperation itself, and those that only ROS needs."""

from __future__ import annotations

from dataclasses import dataclass

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.settings import setting
from hand_pose_3d.teleoperation import TeleoperationConfig

ROBOT_HANDS = ("allegro", "shadow", "svh", "leap", "ability", "inspire", "panda")
"""Names of dex-retargeting."""


@dataclass(frozen=True)
class TeleopParameters(TeleoperationConfig):
    """Everything that can be set on the node, read once at its start."""

    base_frame: str = setting("base_link", "The robot's base frame, in which the target is given.", fixed=True)
    effector_frame: str = setting(
        "",
        "Frame of the robot's effector on TF: the target starts from there each time. Empty: from start.*.",
        fixed=True,
    )
    start_x_m: float = setting(
        0.45,
        "Without effector_frame: where the target starts.",
        name="start.x",
        unit="m",
        low=-10.0,
        high=10.0,
        fixed=True,
    )
    start_y_m: float = setting(0.0, "The same.", name="start.y", unit="m", low=-10.0, high=10.0, fixed=True)
    start_z_m: float = setting(0.3, "The same.", name="start.z", unit="m", low=-10.0, high=10.0, fixed=True)
    start_roll_rad: float = setting(
        0.0,
        "The same, rotation about the base frame's x first.",
        name="start.roll",
        unit="rad",
        low=-7.0,
        high=7.0,
        fixed=True,
    )
    start_pitch_rad: float = setting(
        0.0, "Then about its y.", name="start.pitch", unit="rad", low=-7.0, high=7.0, fixed=True
    )
    start_yaw_rad: float = setting(
        0.0, "Then about its z.", name="start.yaw", unit="rad", low=-7.0, high=7.0, fixed=True
    )

    camera_from: str = setting(
        "tf",
        "Where the camera's pose in the base frame comes from: TF, or the camera.* below.",
        choices=("tf", "stated"),
        fixed=True,
    )
    camera_x_m: float = setting(
        0.0, "Stated pose of the camera's optical frame.", name="camera.x", unit="m", low=-100.0, high=100.0, fixed=True
    )
    camera_y_m: float = setting(0.0, "The same.", name="camera.y", unit="m", low=-100.0, high=100.0, fixed=True)
    camera_z_m: float = setting(0.0, "The same.", name="camera.z", unit="m", low=-100.0, high=100.0, fixed=True)
    camera_roll_rad: float = setting(
        0.0,
        "The same, rotation about the base frame's x first.",
        name="camera.roll",
        unit="rad",
        low=-7.0,
        high=7.0,
        fixed=True,
    )
    camera_pitch_rad: float = setting(
        0.0, "Then about its y.", name="camera.pitch", unit="rad", low=-7.0, high=7.0, fixed=True
    )
    camera_yaw_rad: float = setting(
        0.0, "Then about its z.", name="camera.yaw", unit="rad", low=-7.0, high=7.0, fixed=True
    )
    max_transform_age_s: float = setting(
        0.5,
        "Moving frames that did not come for longer are not used.",
        name="max_transform_age",
        unit="s",
        low=0.01,
        high=10.0,
        fixed=True,
    )

    clutch_pinch: bool = setting(
        True, "The other hand's pinch, held, closes the clutch.", name="clutch.pinch", fixed=True
    )
    clutch_joy_button: int = setting(
        -1,
        "Button of sensor_msgs/Joy that closes the clutch while held; -1: none.",
        name="clutch.joy_button",
        low=-1,
        high=100,
        fixed=True,
    )

    gripper_joint: str = setting(
        "gripper", "Joint named in the gripper's JointTrajectory.", name="gripper.joint", fixed=True
    )
    gripper_max_effort: float = setting(
        0.0,
        "Most effort in control_msgs/GripperCommand; 0 leaves it to the gripper.",
        name="gripper.max_effort",
        low=0.0,
        high=1000.0,
        fixed=True,
    )

    robot_hand: str = setting(
        "",
        f"Robot hand, by dex-retargeting: plain, {', '.join(ROBOT_HANDS)}, or a configuration file; empty: none.",
        fixed=True,
    )
    robot_hand_urdf_folder: str = setting(
        "", "Folder of dex-retargeting's robot descriptions (dex-urdf).", name="robot_hand_urdf", fixed=True
    )
    robot_hand_speed_rad_s: float = setting(
        3.0,
        "Most speed of the robot hand's joints.",
        name="robot_hand_speed",
        unit="rad/s",
        low=0.01,
        high=30.0,
        fixed=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base_frame:
            raise InvalidInputError("base_frame must not be empty: name the robot's base frame")
