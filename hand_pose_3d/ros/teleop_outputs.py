"""What hand_teleop publishes: pure copying of numbers into standard messages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.grasping import Grasp
from hand_pose_3d.hands import HandPose
from hand_pose_3d.ros import start
from hand_pose_3d.ros.teleop_parameters import TeleopParameters
from hand_pose_3d.teleoperation import Target
from hand_pose_3d.turns import quaternion

_POINT_TIME_S = 0.05
"""Least time that a controller gets to reach the point of a trajectory: two steps of a slow one."""


class TeleopOutputs:
    """Publishers of the node."""

    def __init__(self, node: Any, parameters: TeleopParameters) -> None:
        from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TwistStamped
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Bool, Float64
        from trajectory_msgs.msg import JointTrajectory

        self._parameters = parameters
        self._pose = node.create_publisher(PoseStamped, "~/target_pose", 10)
        self._twist = node.create_publisher(TwistStamped, "~/target_twist", 10)
        # Used again and again: making them anew costs more than publishing them.
        self._pose_message, self._twist_message = PoseStamped(), TwistStamped()
        for header in (self._pose_message.header, self._twist_message.header):
            header.frame_id = parameters.base_frame
        self._opening = node.create_publisher(Float64, "~/gripper/opening", 10)
        self._gripper = node.create_publisher(JointTrajectory, "~/gripper/trajectory", 10)
        self._command: Any = None
        try:
            from control_msgs.msg import GripperCommand
        except ImportError:
            pass
        else:
            self._command = node.create_publisher(GripperCommand, "~/gripper/command", 10)
        self._pinch = node.create_publisher(PoseWithCovarianceStamped, "~/pinch", 10)
        self._pinch_base = node.create_publisher(PoseWithCovarianceStamped, "~/pinch_base", 10)
        self._pinch_opening = node.create_publisher(Float64, "~/pinch_opening", 10)
        self._pinch_stddev = node.create_publisher(Float64, "~/pinch_opening_stddev", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._engaged = node.create_publisher(Bool, "~/engaged", latched)
        self._was_engaged: bool | None = None
        self._robot_hand = _robot_hand(parameters)
        if self._robot_hand is not None:
            self._joints = node.create_publisher(JointState, "~/robot_hand/joint_states", 10)
            self._trajectory = node.create_publisher(JointTrajectory, "~/robot_hand/trajectory", 10)
        self._orientation = (0.0, 0.0, 0.0, 1.0)
        self._angles: dict[str, float] = {}
        self._angles_s: float | None = None

    def target(self, target: Target, stamp: Any) -> None:
        """Pose and twist in the base frame, and the gripper's opening."""
        posed, twist = self._pose_message, self._twist_message
        posed.header.stamp = twist.header.stamp = stamp
        _fill_pose(posed.pose, target.position_m, target.rotation, self._orientation)
        q = posed.pose.orientation
        self._orientation = q.x, q.y, q.z, q.w
        self._pose.publish(posed)
        if self._twist.get_subscription_count():
            linear, angular = twist.twist.linear, twist.twist.angular
            linear.x, linear.y, linear.z = target.velocity_m_s.tolist()
            angular.x, angular.y, angular.z = target.turn_rad_s.tolist()
            self._twist.publish(twist)
        opening = target.gripper_opening_m
        if opening is None:
            return
        joint, effort = self._parameters.gripper_joint, self._parameters.gripper_max_effort
        for publisher, make in (
            (self._opening, lambda: self._opening.msg_type(data=opening)),
            (self._gripper, lambda: _trajectory([joint], [opening])),
            (self._command, lambda: self._command.msg_type(position=opening, max_effort=effort)),
        ):
            if publisher is not None and publisher.get_subscription_count():
                publisher.publish(make())

    def state(self, engaged: bool, again: bool = False) -> None:
        """Whether the clutch is closed; published when that changes, or again. The last word is kept for newcomers."""
        if again or engaged != self._was_engaged:
            self._was_engaged = engaged
            self._engaged.publish(self._engaged.msg_type(data=engaged))

    @property
    def grasps_are_wanted(self) -> bool:
        """Whether anybody listens to the pinch: its messages cost more than the target's."""
        publishers = (self._pinch, self._pinch_base, self._pinch_opening, self._pinch_stddev)
        return any(publisher.get_subscription_count() for publisher in publishers)

    def grasp(self, camera: Grasp, base: Grasp | None, header: Any) -> None:
        """The followed hand's pinch, whether the clutch is closed or not."""
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from std_msgs.msg import Float64

        for grasp, publisher, frame in (
            (camera, self._pinch, header.frame_id),
            (base, self._pinch_base, self._parameters.base_frame),
        ):
            if grasp is not None:
                message = PoseWithCovarianceStamped()
                message.header.stamp, message.header.frame_id = header.stamp, frame
                _fill_pose(message.pose.pose, grasp.point_m, grasp.rotation)
                message.pose.covariance = grasp.covariance().ravel()
                publisher.publish(message)
        self._pinch_opening.publish(Float64(data=camera.opening_m))
        self._pinch_stddev.publish(Float64(data=camera.opening_stddev_m))

    def restart_robot_hand(self) -> None:
        """Time without the clutch is no time in which the fingers were on their way."""
        self._angles_s = None

    def robot_hand(self, hand: HandPose, now_s: float, stamp: Any) -> None:
        """The robot hand's joints, none faster than its limit. The first pose is taken as it is."""
        if self._robot_hand is None:
            return
        from sensor_msgs.msg import JointState

        wanted = self._robot_hand(hand.keypoints_canonical)
        elapsed = 0.0 if self._angles_s is None else min(max(now_s - self._angles_s, 0.0), 0.1)
        reach = self._parameters.robot_hand_speed_rad_s * elapsed
        self._angles_s = now_s
        for name, angle in wanted.items():
            if not math.isfinite(angle):
                continue
            before = self._angles.get(name, angle)
            self._angles[name] = before + min(max(angle - before, -reach), reach)
        names, angles = list(self._angles), list(self._angles.values())
        message = JointState(name=names, position=angles)
        message.header.stamp = stamp
        self._joints.publish(message)
        self._trajectory.publish(_trajectory(names, angles, max(_POINT_TIME_S, elapsed)))


def _fill_pose(
    message: Any, position_m: Any, rotation: Any, before: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
) -> None:
    """before: the quaternion of the last pose, whose sign goes on, for those who filter or record its numbers."""
    message.position.x, message.position.y, message.position.z = position_m.tolist()
    x, y, z, w = quaternion(rotation.tolist())
    sign = math.copysign(1.0, sum(a * b for a, b in zip((x, y, z, w), before)))
    q = message.orientation
    q.x, q.y, q.z, q.w = sign * x, sign * y, sign * z, sign * w


def _trajectory(names: list[str], positions: list[float], seconds: float = _POINT_TIME_S) -> Any:
    from builtin_interfaces.msg import Duration
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    # Stamp zero: to be started at once, whatever the clocks say.
    point = JointTrajectoryPoint(positions=positions, time_from_start=Duration(nanosec=round(1e9 * seconds)))
    return JointTrajectory(joint_names=names, points=[point])


def _robot_hand(parameters: TeleopParameters) -> Any | None:
    """The retargeter that the parameters ask for. Raises InvalidInputError, in words, where it cannot be had."""
    from hand_pose_3d.retargeting import HandRetargeter, named_config

    name = parameters.robot_hand
    if not name:
        return None
    folder = start.file_name(parameters.robot_hand_urdf_folder)
    try:
        config = None if name == "plain" else named_config(start.file_name(name), parameters.side)
        return HandRetargeter(parameters.side, config, Path(folder).expanduser() if folder else None)
    except ImportError as error:
        raise InvalidInputError(
            f"robot_hand {name!r} needs dex-retargeting (pip install dex-retargeting six): {error}"
        ) from error
