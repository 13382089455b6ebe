"""Teleoperation end to end without a robot: pictures through the real nodes to a simulated arm and robot hand.

    python -m hand_pose_3d.ros.teleop_demo [--input video.mp4 | /dev/video0] [--out teleop_output]

leaves teleop.mp4 (camera, robot hand and arm side by side), teleop.png, its best moment, and figures.txt.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.outputs import encode_image
from hand_pose_3d.ros import play
from hand_pose_3d.ros.diagnostics import Diagnosis, parse, values_of
from hand_pose_3d.ros.latency import cpu_seconds
from hand_pose_3d.ros.messages import stamp_seconds
from hand_pose_3d.ros.pictures import Pictures
from hand_pose_3d.ros.share import own_arguments
from hand_pose_3d.simulation import OPENING_M, SimulatedArm, SimulatedHand, View
from hand_pose_3d.turns import quaternion

RESULTS = ("teleop.mp4", "teleop.png", "figures.txt")
RATE_HZ = 100.0
"""Of the simulated robot's controller."""
COMMAND_TIMEOUT_S = 0.1
"""The robot holds when its last command is older."""
_BASE, _GRIP = "panda_link0", "panda_grip"
PARAMETERS: dict[str, object] = {
    "base_frame": _BASE,
    "effector_frame": _GRIP,
    # The camera looks back at a person who sits behind the robot: their right is the robot's right.
    "camera_from": "stated",
    "camera.roll": -math.pi / 2,
    "camera.yaw": math.pi / 2,
    "workspace.x_min": 0.3,
    "workspace.y_min": -0.35,
    "workspace.y_max": 0.35,
    "workspace.z_min": 0.03,
    "workspace.z_max": 0.5,
    "gripper.opening": OPENING_M,
}
"""Of hand_teleop."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = play.options_parser(
        "teleop_demo", __doc__, inputs="video", times="default: to its end", default="teleop_clip", out="teleop_output"
    )
    parser.add_argument(
        "--clutch",
        choices=("auto", "pinch", "service"),
        default="auto",
        help="pinch: the left hand's; service: closed whenever it can be; default: service for videos of one's own",
    )
    return parser.parse_args(own_arguments(arguments))


@dataclass
class Moment:
    """The robot at a time in seconds of the clock that stamps images."""

    time_s: float
    arm: np.ndarray
    hand: np.ndarray
    cube_m: np.ndarray
    error_m: float


class TeleopDemo(play.Player):
    """Is the robot, keeps what was seen and done, and draws it afterwards: drawing would take the nodes' time."""

    def __init__(self, options: argparse.Namespace, pictures: Pictures, node_command: Sequence[str]) -> None:
        self.node_command = node_command
        self.by_pinch = options.clutch == "pinch" or (
            options.clutch == "auto" and (options.input == "teleop_clip" or pictures.live)
        )
        self.arm, self.hand = SimulatedArm(), SimulatedHand()
        self.moments: list[Moment] = []
        self.stamps_s: list[float] = []
        self.coded: list[bytes] = []
        """A camera's images; those of a file are read again."""
        self.hands: dict[float, list[HandPose]] = {}
        self._hands_received: list[tuple[bytes, float]] = []
        self.delays_s: list[float] = []
        self.clutch: list[tuple[float, bool]] = []
        self.reasons: list[tuple[float, str]] = []
        self.command_ms: list[tuple[float, float]] = []
        self.teleop_share = math.nan
        self._diagnosis: Diagnosis | None = None
        self._target: tuple[np.ndarray, np.ndarray] | None = None
        self._target_s = -math.inf
        self._opening_m: float | None = None
        self._angles: dict[str, float] = {}
        self._stepped_s = -math.inf
        self._asked_s = -math.inf
        self._folder = tempfile.TemporaryDirectory(prefix="hand_pose_3d_")
        super().__init__("teleop_demo", options, pictures)
        self.listeners = (2, 1) if pictures.live else (1, 2)

    def run(self) -> None:
        self._listen()
        tracker = self.children.start(self.node_command)
        teleop = self.children.start(
            ("-m", "hand_pose_3d.ros.teleop"),
            {**PARAMETERS, "clutch.pinch": self.by_pinch, "robot_hand": self._robot_hand()},
        )
        self.start(tracker, teleop, ready=self._ready)
        self._stepped_s = begin_s = time.monotonic()
        before_s = cpu_seconds(teleop.pid) or math.nan
        self.play(30.0 if self.pictures.live else 0.0, loop=False)
        self.teleop_share = ((cpu_seconds(teleop.pid) or math.nan) - before_s) / (time.monotonic() - begin_s)
        if not self.stamps_s:
            raise HandPoseError("no image arrived")

    def spin(self, seconds: float) -> None:
        """Take messages for so long; once the nodes are ready the robot takes its steps meanwhile."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = self._stepped_s + 1 / RATE_HZ if math.isfinite(self._stepped_s) else end
            if now >= due:
                self._step()
            else:
                super().spin(min(due, end) - now)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def _robot_hand(self) -> str:
        """The configuration of dex-retargeting for the simulated hand."""
        import yaml

        folder = Path(self._folder.name)
        (folder / "shadow_hand.urdf").write_text(self.hand.urdf(), encoding="utf-8")
        path = folder / "shadow_hand.yml"
        path.write_text(yaml.safe_dump(self.hand.retargeting(str(folder / "shadow_hand.urdf"))), encoding="utf-8")
        return str(path)

    def _ready(self) -> bool:
        return self._diagnosis is not None and self._diagnosis.state == "active" and bool(self.clutch)

    # Topics

    def _listen(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CameraInfo, Image
        from std_msgs.msg import Bool, Float64
        from std_srvs.srv import SetBool
        from trajectory_msgs.msg import JointTrajectory

        from hand_pose_3d.msg import HandPose3DArray
        from hand_pose_3d.ros import tf

        make, quality = self.ros.create_subscription, QoSProfile(depth=50)
        if self.pictures.live:
            make(Image, "/image", self.later(self._on_image), quality, raw=True)
        else:
            make(CameraInfo, "/camera_info", self._on_info, quality)
        make(HandPose3DArray, "/hand_pose_3d/hands", self._on_hands, quality, raw=True)
        make(DiagnosticArray, "/diagnostics", self._on_diagnostics, quality)
        make(PoseStamped, "/hand_teleop/target_pose", self._on_target, 1)
        make(Float64, "/hand_teleop/gripper/opening", self._on_opening, 1)
        make(JointTrajectory, "/hand_teleop/robot_hand/trajectory", self._on_trajectory, 1)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        make(Bool, "/hand_teleop/engaged", self._on_engaged, latched)
        self._engage: Any = self.ros.create_client(SetBool, "/hand_teleop/engage")
        kind = tf.message_type()
        if kind is None:
            raise HandPoseError("tf2_msgs is not installed, so nobody can be told where the robot is")
        self._tf = self.ros.create_publisher(kind, "/tf", 10)

    def _now_s(self) -> float:
        return self.ros.get_clock().now().nanoseconds * 1e-9

    def _on_info(self, message: Any) -> None:
        self.stamps_s.append(stamp_seconds(message.header.stamp) or 0.0)

    def _on_image(self, data: bytes, received_ns: int) -> None:
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import Image

        from hand_pose_3d.ros.conversions import image_to_rgb

        message = deserialize_message(data, Image)
        self.coded.append(encode_image(image_to_rgb(message), ".jpg"))
        self.stamps_s.append(stamp_seconds(message.header.stamp) or 0.0)

    def _on_hands(self, data: bytes) -> None:
        self._hands_received.append((data, self._now_s()))

    def _read_hands(self) -> None:
        from rclpy.serialization import deserialize_message

        from hand_pose_3d.msg import HandPose3DArray
        from hand_pose_3d.ros.messages import hand_from_message

        for data, received_s in self._hands_received:
            message = deserialize_message(data, HandPose3DArray)
            stamp_s = stamp_seconds(message.header.stamp) or 0.0
            self.delays_s.append(received_s - stamp_s)
            self.hands[stamp_s] = [hand_from_message(hand) for hand in message.hands]

    def _on_target(self, message: Any) -> None:
        from scipy.spatial.transform import Rotation

        p, q = message.pose.position, message.pose.orientation
        self._target = np.array([p.x, p.y, p.z]), Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        self._target_s = time.monotonic()

    def _on_opening(self, message: Any) -> None:
        self._opening_m = message.data

    def _on_trajectory(self, message: Any) -> None:
        self._angles = dict(zip(message.joint_names, message.points[0].positions, strict=True))

    def _on_engaged(self, message: Any) -> None:
        if not self.clutch or self.clutch[-1][1] != message.data:
            self.clutch.append((self._now_s(), message.data))

    def _on_diagnostics(self, message: Any) -> None:
        self._diagnosis = parse(message, "hand_pose_3d") or self._diagnosis
        values = values_of(message, "hand_teleop")
        if values:
            self.reasons.append((self._now_s(), values["last stop"]))
        if delays := values.get("hands to command p50 / max (ms)"):
            median, most = map(float, delays.split(" / "))
            self.command_ms.append((median, most))

    # The robot

    def _step(self) -> None:
        """One step of the robot's controller."""
        now = time.monotonic()
        dt, self._stepped_s = min(now - self._stepped_s, 0.05), now
        fresh = now - self._target_s < COMMAND_TIMEOUT_S
        target = self._target if fresh else None
        self.arm.advance(dt, target, self._opening_m)
        self.hand.advance(dt, self._angles)
        position, rotation = self.arm.pose
        self._tell(position, rotation)
        engaged = bool(self.clutch and self.clutch[-1][1])
        self.moments.append(
            Moment(
                self._now_s(),
                self.arm.data.qpos.copy(),
                self.hand.data.qpos.copy(),
                self.arm.cube_m,
                math.nan if target is None or not engaged else float(np.linalg.norm(position - target[0])),
            )
        )
        if not self.by_pinch and not engaged and now - self._asked_s > 0.5 and self._engage.service_is_ready():
            from std_srvs.srv import SetBool

            self._asked_s = now
            self._engage.call_async(SetBool.Request(data=True))

    def _tell(self, position: np.ndarray, rotation: np.ndarray) -> None:
        from geometry_msgs.msg import TransformStamped

        message = TransformStamped(child_frame_id=_GRIP)
        message.header.frame_id, message.header.stamp = _BASE, self.ros.get_clock().now().to_msg()
        t, q = message.transform.translation, message.transform.rotation
        t.x, t.y, t.z = position.tolist()
        q.x, q.y, q.z, q.w = quaternion(rotation.tolist())
        self._tf.publish(self._tf.msg_type(transforms=[message]))

    # Results

    def finish(self) -> str:
        self._read_hands()
        self._film()
        errors = 1e3 * np.array([m.error_m for m in self.moments if math.isfinite(m.error_m)])
        cubes = np.array([m.cube_m for m in self.moments])
        closed_s, stops = self._clutch_times()
        span = self.stamps_s[-1] - self.stamps_s[0]
        rows = [
            ("images", f"{len(self.stamps_s)} in {span:.1f} s"),
            ("hands messages", f"{len(self.delays_s)}"),
            ("clutch", f"closed for {closed_s:.1f} s, by {'pinch' if self.by_pinch else 'service'}"),
            ("stops", "; ".join([str(len(stops)), *stops])),
        ]
        if self.delays_s:
            p50, p95 = np.percentile(1e3 * np.array(self.delays_s), [50, 95])
            rows.append(("latency, image to hands message", f"p50 {p50:.1f} / p95 {p95:.1f} ms"))
        if self.command_ms:
            medians, most = zip(*self.command_ms)
            rows.append(("latency, hands message to command", f"p50 {np.median(medians):.2f} / max {max(most):.2f} ms"))
        rows.append(("processor time of hand_teleop", f"{100 * self.teleop_share:.0f} % of a core"))
        if errors.size:
            p50, p95 = np.percentile(errors, [50, 95])
            rows.append(("tracking error, gripper to target", f"p50 {p50:.1f} / p95 {p95:.1f} mm"))
        if len(cubes):
            lifted, moved = cubes[:, 2].max() - cubes[0, 2], np.linalg.norm(cubes[-1, :2] - cubes[0, :2])
            rows.append(("cube", f"lifted by {100 * lifted:.0f} cm, moved by {100 * moved:.0f} cm"))
        return play.aligned(rows)

    def _clutch_times(self) -> tuple[float, list[str]]:
        """Seconds in which the clutch was closed, and why it opened each time."""
        closed_s, reasons = 0.0, []
        for (since, closed), (until, _) in zip(self.clutch, [*self.clutch[1:], (self._end_s(), False)]):
            if closed:
                closed_s += until - since
                if until < self._end_s():
                    reasons.append(next((why for when, why in self.reasons if when > until), ""))
        return closed_s, [why for why in reasons if why]

    def _end_s(self) -> float:
        return self.moments[-1].time_s if self.moments else 0.0

    def _film(self) -> None:
        """Draw the video and its best moment."""
        import cv2
        from tqdm import tqdm

        from hand_pose_3d.ros.recording import OverlayVideo

        times = [moment.time_s for moment in self.moments]
        arm = View(self.arm, (720, 720), (0.36, 0.0, 0.24), 1.35, (155, -24))
        hand = View(self.hand, (640, 240), (0.0, 0.0, 0.4), 0.34, (90, -5))
        video = OverlayVideo(self.options.out / "teleop.mp4", self.options.out / "teleop.png", self.pictures.rate_hz)
        images: Iterable[np.ndarray] = map(_decoded, self.coded) if self.pictures.live else self.pictures.start()
        for stamp_s, image in zip(tqdm(self.stamps_s, desc="drawing", unit="frame", disable=None), images):
            k = max(bisect_right(times, stamp_s) - 1, 0)
            moment = self.moments[k]
            camera = self._camera_picture(image, stamp_s)
            left = np.vstack([cv2.resize(camera, (640, 480)), hand.picture(moment.hand)])
            video.add(np.hstack([left, arm.picture(moment.arm)]), stamp_s, float(moment.cube_m[2]))
        arm.close()
        hand.close()
        self.written += video.close()

    def _camera_picture(self, image: np.ndarray, stamp_s: float) -> np.ndarray:
        """The image with its hands and, below, what the clutch was at that time."""
        import cv2

        from hand_pose_3d.drawing import draw_hands

        drawn = draw_hands(image, self.hands.get(stamp_s, []))
        k = bisect_right(self.clutch, (stamp_s, True)) - 1
        closed = k >= 0 and self.clutch[k][1]
        text, colour = (
            ("the robot follows", (90, 220, 120)) if closed else ("clutch open: the robot holds", (255, 190, 80))
        )
        for shade, width in (((0, 0, 0), 5), (colour, 2)):
            cv2.putText(drawn, text, (12, len(drawn) - 16), cv2.FONT_HERSHEY_SIMPLEX, 0.8, shade, width, cv2.LINE_AA)
        return drawn


def _decoded(coded: bytes) -> np.ndarray:
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]


def main(arguments: Sequence[str] | None = None, node_command: Sequence[str] = play.NODE) -> int:
    """Run the demo. node_command: what Python runs as the tracker. Returns the exit status."""
    options = _arguments(arguments)
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    return play.run(
        "teleoperation demo", options, RESULTS, lambda made: TeleopDemo(options, made, node_command), photographs=False
    )


if __name__ == "__main__":
    sys.exit(main())
