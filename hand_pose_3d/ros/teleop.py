"""The node hand_teleop: hands in, targets for a robot out. What is decided, is decided in teleoperation.py.

It is off at its start. The clutch is closed by ~/engage, by a pinch of the other hand that is held, or by a button of a
joystick that is held. While the target moves, and half a second longer, pose and twist are published at a steady rate
and with every hands message; else the node is silent, so that other programs may move the robot.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from hand_pose_3d.clutch import HeldClutch, PinchClutch
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.grasping import grasp_of
from hand_pose_3d.hands import HandPose
from hand_pose_3d.ros import start
from hand_pose_3d.ros.diagnostics import OK, WARN, status_message
from hand_pose_3d.ros.messages import hand_from_message, stamp_seconds
from hand_pose_3d.ros.parameters import declare_all
from hand_pose_3d.ros.polling import Poller
from hand_pose_3d.ros.teleop_outputs import TeleopOutputs
from hand_pose_3d.ros.teleop_parameters import TeleopParameters
from hand_pose_3d.ros.tf_tree import FrameTree, Pose, pose
from hand_pose_3d.skeleton import Side
from hand_pose_3d.teleoperation import Observation, Teleoperation, broken, observe

HOLD_S = 0.5
"""How long the target is repeated after a stop, so that a lost message does not matter."""

LEAST_RATE_HZ = 15.0
"""Hands that come less often leave gaps in which the clutch opens."""


class HandTeleopNode(Node):
    """One thread; every callback is short."""

    def __init__(self, **node_arguments: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from std_srvs.srv import SetBool

        from hand_pose_3d.msg import HandPose3DArray
        from hand_pose_3d.ros import tf

        super().__init__("hand_teleop", **node_arguments)
        self.parameters = p = declare_all(self, TeleopParameters, fixed=True)
        self._core = Teleoperation(p)
        self._tree = FrameTree()
        self._camera = pose((p.camera_x_m, p.camera_y_m, p.camera_z_m), _quaternion(p, "camera"))
        self._start = pose((p.start_x_m, p.start_y_m, p.start_z_m), _quaternion(p, "start"))
        self._started = False
        self._engaged_by = ""
        self._pinch = PinchClutch(p.side.other, min_side_score=p.min_side_score) if p.clutch_pinch else None
        self._button = HeldClutch() if p.clutch_joy_button >= 0 else None
        self._refusal, self._joy_fault = "", ""
        self._moved_s = -math.inf
        self._stops_told = 0
        self._received = self._rejected = 0
        self._delays_ms: list[float] = []
        self._reported_s = time.monotonic()
        self._outputs = TeleopOutputs(self, p)
        _warm_up(p)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

        self.create_subscription(HandPose3DArray, "hand_pose_3d/hands", self._on_hands, 5)
        if p.camera_from == "tf" or p.effector_frame:
            kind = tf.message_type()
            if kind is None:
                raise InvalidInputError("tf2_msgs is not installed: state the camera's pose with camera_from:=stated")
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.create_subscription(kind, "/tf", lambda message: self._on_tf(message, False), 100)
            self.create_subscription(kind, "/tf_static", lambda message: self._on_tf(message, True), latched)
        if self._button is not None:
            from sensor_msgs.msg import Joy

            self.create_subscription(Joy, "joy", self._on_joy, 5)
        self.create_service(SetBool, "~/engage", self._on_engage)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._step_s = -math.inf
        self._poller = Poller(self)
        self.get_logger().info(
            f"off: following {p.hand_side} hands on {self.resolve_topic_name('hand_pose_3d/hands')} "
            "once the clutch is closed"
        )

    def spin(self) -> None:
        """Take a step at the node's rate, by a clock that simulated time does not stop, until the context ends."""
        while self.context.ok():
            if time.monotonic() >= self._step_s:
                self._tick()
            self._poller.wait(self._step_s)

    # Inputs

    def _on_tf(self, message: Any, static: bool) -> None:
        wrong = self._tree.add(message.transforms, time.monotonic(), static)
        if wrong:
            self.get_logger().warning(wrong, throttle_duration_sec=5.0)

    def _on_hands(self, message: Any) -> None:
        arrived = time.monotonic()
        self._received += 1
        p, stamp = self.parameters, message.header.stamp
        stamp_s = stamp_seconds(stamp) or math.nan
        now = self.get_clock().now().nanoseconds * 1e-9
        why = ""
        base_camera = None
        try:
            base_camera = self._camera_in_base(message.header.frame_id)
        except InvalidInputError as error:
            why = str(error)
        read = [self._read(entry, base_camera, why) for entry in message.hands]
        seen = [observation for observation, _ in read]
        good = self._core.see(seen, stamp_s, now - stamp_s, arrived)
        if self._pinch is not None:
            self._clutch("pinch", self._pinch.update(seen, arrived))
        self._tick()
        self._delays_ms.append(1e3 * (time.monotonic() - arrived))
        followed = [hand for _, hand in read if hand is not None and hand.side == p.side and hand.score >= p.min_score]
        if self._core.engaged:  # a rival may have come since
            followed = [hand for hand in followed if hand.track_id == self._core.followed_id]
        if followed and self._outputs.grasps_are_wanted:
            self._for_grasping(followed[0], message.header, base_camera)
        if followed and self._core.engaged and good:
            self._outputs.robot_hand(followed[0], arrived, self.get_clock().now().to_msg())

    def _camera_in_base(self, camera_frame: str) -> Pose:
        p = self.parameters
        if p.camera_from == "stated":
            return self._camera
        if not camera_frame:
            raise InvalidInputError(
                "the hands' header names no frame: state the camera's pose with camera_from:=stated"
            )
        return self._fresh(p.base_frame, camera_frame)

    def _fresh(self, target: str, source: str) -> Pose:
        found = self._tree.find(target, source)
        age = time.monotonic() - found.received_s
        if age > self.parameters.max_transform_age_s:
            raise InvalidInputError(f"TF between {source!r} and {target!r} did not come for {age:.1f} s")
        return found

    def _read(self, message: Any, camera: Pose | None, why: str) -> tuple[Observation, HandPose | None]:
        """A hand of a message, checked; the record is None for one whose numbers are wrong."""
        try:
            hand = hand_from_message(message)
            if camera is None:
                return broken(hand.track_id, hand.side, why), hand
            p = self.parameters
            return observe(hand, camera.rotation, camera.translation_m, p.min_fingertip_score), hand
        except InvalidInputError as error:
            self._rejected += 1
            side = Side(message.side) if message.side in set(Side) else Side.UNKNOWN
            return broken(message.track_id, side, f"the message of the hand holds no hand: {error}"), None

    def _for_grasping(self, hand: HandPose, header: Any, camera: Pose | None) -> None:
        try:
            grasp = grasp_of(hand)
        except InvalidInputError:
            return
        moved = None if camera is None else grasp.moved(camera.rotation, camera.translation_m)
        self._outputs.grasp(grasp, moved, header)

    # Clutch

    def _on_engage(self, request: Any, response: Any) -> Any:
        if request.data:
            response.message = self._engage("service")
            response.success = not response.message
            response.message = response.message or f"following the {self.parameters.hand_side} hand"
        else:
            self._core.disengage("opened by ~/engage")
            response.success, response.message = True, "off"
        return response

    def _on_joy(self, message: Any) -> None:
        number = self.parameters.clutch_joy_button
        assert self._button is not None
        held = bool(message.buttons[number]) if number < len(message.buttons) else None
        self._joy_fault = (
            f"clutch.joy_button is {number}, but the joystick has {len(message.buttons)} buttons"
            if held is None
            else ""
        )
        self._clutch("button", self._button.update(held, time.monotonic()))

    def _clutch(self, by: str, closes: bool | None) -> None:
        if closes and not self._core.engaged:
            self._engage(by)
        elif closes is False and self._core.engaged and self._engaged_by == by:
            self._core.disengage(f"the {by} was let go of")

    def _engage(self, by: str) -> str:
        """Close the clutch; why not, in words, or ""."""
        p, where = self.parameters, None
        try:
            if p.effector_frame:
                where = self._fresh(p.base_frame, p.effector_frame)
            elif not self._started:
                where = self._start
            refusal = self._core.engage(
                time.monotonic(),
                None if where is None else where.translation_m,
                None if where is None else where.rotation,
            )
        except InvalidInputError as error:
            refusal = str(error)
        if refusal:
            self._refusal = f"the {by} did not close the clutch: {refusal}"
            self.get_logger().warning(self._refusal, throttle_duration_sec=1.0)
        else:
            self._started, self._engaged_by, self._refusal = True, by, ""
            self._outputs.restart_robot_hand()
            self.get_logger().info(f"clutch closed by the {by}")
        return refusal

    # The target

    def _tick(self) -> None:
        now = time.monotonic()
        period_s = 1 / self.parameters.rate_hz  # a step at a hands message takes the place of the next one
        self._step_s = min(max(self._step_s + period_s, now), now + 2 * period_s)
        if self._button is not None:
            self._clutch("button", self._button.update(None, now))
        if self._pinch is not None:
            self._clutch("pinch", self._pinch.update((), now))
        if self._core.engaged and self.parameters.effector_frame:
            self._watch_robot()
        target = self._core.step(now)
        if self._core.stops != self._stops_told:  # some faults open the clutch when hands are seen, some in a step
            self._stops_told, self._refusal = self._core.stops, ""
            self.get_logger().warning(f"stopped: {self._core.why_stopped}")
        if target is None:
            return self._outputs.state(False)
        if target.moving:
            self._moved_s = now
        if now - self._moved_s <= HOLD_S:
            self._outputs.target(target, self.get_clock().now().to_msg())
        return self._outputs.state(target.engaged)

    def _watch_robot(self) -> None:
        """Where the robot is, unless its frame is static and so tells nothing of it."""
        p = self.parameters
        try:
            robot = self._fresh(p.base_frame, p.effector_frame)
        except InvalidInputError as error:
            self._core.stop(f"it is not known where the robot is: {error}")
        else:
            if math.isfinite(robot.received_s):
                self._core.robot_at(robot.translation_m, robot.rotation)

    def _report(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        now = time.monotonic()
        rate = self._received / max(now - self._reported_s, 1e-3)
        core = self._core
        level, sentence = OK, f"off: {core.why_stopped}"
        if core.engaged:
            sentence = f"following the {self.parameters.hand_side} hand, clutch closed by the {self._engaged_by}"
        elif self._refusal:
            sentence = self._refusal
        topic = self.resolve_topic_name("hand_pose_3d/hands")
        publishers = self.count_publishers(topic)
        if not self._received:
            silent = "its publisher is silent" if publishers else "nobody publishes it"
            level, sentence = WARN, f"no hands on {topic}: {silent}"
        elif rate < LEAST_RATE_HZ:
            level, sentence = (
                WARN,
                f"hands come at {rate:.0f} Hz: below {LEAST_RATE_HZ:.0f} Hz the clutch opens by itself",
            )
        elif self._joy_fault or publishers > 1:
            several = f"{publishers} publishers of hands on {topic}: a hand of one may close the clutch for another's"
            level, sentence = WARN, self._joy_fault or several
        elif core.why_not_good:
            level = WARN if core.engaged else OK
        values = {
            "clutch": "closed" if core.engaged else "open",
            "last stop": core.why_stopped,
            "last refusal": self._refusal,
            "hand": core.why_not_good or "good",
            "stops": str(core.stops),
            "hands rate (Hz)": f"{rate:.1f}",
            "hands rejected": str(self._rejected),
        }
        if self._delays_ms:
            values["hands to command p50 / max (ms)"] = f"{np.median(self._delays_ms):.2f} / {max(self._delays_ms):.2f}"
        self._received, self._reported_s, self._delays_ms = 0, now, []
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name().lstrip('/')}: teleoperation"
        message.status = [status_message(name, self.parameters.base_frame, level, sentence, values)]
        self._diagnostics.publish(message)
        self._outputs.state(core.engaged, again=True)


def _warm_up(parameters: TeleopParameters) -> None:
    """Go through everything once, so that no library is loaded while a robot moves."""
    core = Teleoperation(parameters)
    side = parameters.side
    for stamp_s in (0.0, 0.03):
        core.see([Observation(side, 1.0, 1, 1.0, np.zeros(3), np.eye(3), 0.0, 0.05)], stamp_s, 0.0, stamp_s)
    core.engage(0.03, parameters.box_m.mean(axis=0), np.eye(3))
    core.step(0.04)


def _quaternion(parameters: TeleopParameters, prefix: str) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    angles = [getattr(parameters, f"{prefix}_{name}_rad") for name in ("roll", "pitch", "yaw")]
    return Rotation.from_euler("xyz", angles).as_quat()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop. Returns the exit status."""
    try:
        with start.process(arguments):
            HandTeleopNode().spin()
    except HandPoseError as error:
        print(f"hand_teleop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
