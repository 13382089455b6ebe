"""The demo: the image source and the node in processes of their own, recorded from their topics.

    python -m hand_pose_3d.ros.demo [--input photo.jpg | video.mp4 | /dev/video0] [--out demo_output]

leaves overlay.mp4, overlay.png, a recording of the topics (MCAP, as `ros2 bag` writes it) and figures.txt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.estimator import STAGES
from hand_pose_3d.ros import play
from hand_pose_3d.ros.diagnostics import Diagnosis, parse
from hand_pose_3d.ros.messages import stamp_seconds
from hand_pose_3d.ros.pictures import Pictures
from hand_pose_3d.ros.play import NODE_NAME
from hand_pose_3d.ros.share import own_arguments

_SECONDS = {"clip": 10.0, "photo": 5.0, "camera": 15.0, "video": 60.0}
"""Seconds for which each kind of input plays; a shorter video ends earlier."""
_TIMES = f"default: {', '.join(f'{kind} {seconds:g}' for kind, seconds in _SECONDS.items())}"
RESULTS = ("overlay.mp4", "overlay.png", "recording", "figures.txt")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = play.options_parser("demo", __doc__, inputs="photograph, video", times=_TIMES, out="demo_output")
    parser.add_argument("--model", default="auto", help="networks: auto, lite or paper")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser.parse_args(own_arguments(arguments))


class Demo(play.Player):
    """Listens to the topics and writes the results."""

    def __init__(self, options: argparse.Namespace, pictures: Pictures, node_command: Sequence[str]) -> None:
        from hand_pose_3d.ros.recording import OverlayVideo, Recorder, TopicMetrics

        super().__init__("hand_pose_3d_demo", options, pictures)
        self.node_command = node_command
        self.metrics = TopicMetrics()
        self.video = OverlayVideo(options.out / "overlay.mp4", options.out / "overlay.png", pictures.rate_hz)
        self.recorder = Recorder(options.out / "recording")
        self.written = [options.out / "recording"]
        self.diagnosis: Diagnosis | None = None
        self._scores: dict[tuple[int, int], float] = {}

    def run(self) -> None:
        options, kind = self.options, self.pictures.kind
        node = self.children.start(self.node_command, model=options.model, device=options.device)
        self._listen()
        self.start(node, ready=lambda: self.diagnosis is not None and self.diagnosis.state == "active")
        if kind == "video" and not options.seconds:
            print(
                f"the first {_SECONDS[kind]:g} s of it at most; --seconds sets another time, and repeats shorter ones"
            )
        self.play(_SECONDS[kind], loop=kind != "video" or bool(options.seconds))
        if not self.metrics.results:
            raise HandPoseError("the node processed no image")

    def close(self) -> None:
        super().close()
        self.recorder.close()
        self.written += self.video.close()

    def finish(self) -> str:
        rows = self.metrics.rows()
        if self.diagnosis is not None:
            said = self.diagnosis
            rows.insert(3, ("  replaced in the node by newer ones", str(said.replaced)))
            rows.append(("networks", f"{said.model} on {said.device}"))
            rows.append(("metric placement", said.placement))
            rows.append(("times of an image, ms", "p50 / p95"))
            parts = ("waiting", "converting", "estimating", *STAGES, "publishing")
            for name in ("in the node", *parts):
                if name in said.stages_ms:
                    depth = (name in parts) + (name in STAGES)
                    rows.append((2 * depth * " " + name, "{:.1f} / {:.1f}".format(*said.stages_ms[name])))
        table = play.aligned(rows)
        return table if self.metrics.with_hand else f"{table}\n\nNo hand was found in the input."

    def _listen(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image, JointState
        from visualization_msgs.msg import MarkerArray

        from hand_pose_3d.msg import HandPose3D, HandPose3DArray
        from hand_pose_3d.ros import tf

        topics: list[tuple[str, Any]] = [
            ("/image", Image),
            ("/camera_info", CameraInfo),
            (f"{NODE_NAME}/hands", HandPose3DArray),
            (f"{NODE_NAME}/hand", HandPose3D),
            (f"{NODE_NAME}/markers", MarkerArray),
            (f"{NODE_NAME}/joint_states", JointState),
            (f"{NODE_NAME}/overlay", Image),
            ("/diagnostics", DiagnosticArray),
        ]
        transform = tf.message_type()
        if transform is not None:
            topics.append(("/tf", transform))
        for topic, kind in topics:
            self.ros.create_subscription(kind, topic, self._receiver(topic, kind), QoSProfile(depth=50), raw=True)

    def _receiver(self, topic: str, kind: Any) -> Any:
        from rclpy.serialization import deserialize_message

        package, name = kind.__module__.split(".")[0], kind.__name__
        # The overlay is in the video; as raw images it would double the size of the recording.
        recorded = not topic.endswith("/overlay")
        handler = {
            "/image": self._on_image,
            f"{NODE_NAME}/hands": self._on_hands,
            f"{NODE_NAME}/overlay": self._on_overlay,
            "/diagnostics": self._on_diagnostics,
        }.get(topic)

        def write(data: bytes, received_ns: int) -> None:
            if handler is not None:
                handler(deserialize_message(data, kind), 1e-9 * received_ns)
            if recorded:
                self.recorder.write(topic, f"{package}/msg/{name}", data, received_ns)

        # In another thread: compressing and drawing must not delay the measured times.
        return self.later(write)

    def _on_image(self, message: Any, received_s: float) -> None:
        self.metrics.image(message.header.stamp, received_s)

    def _on_hands(self, message: Any, received_s: float) -> None:
        self.metrics.hands(message, received_s)
        stamp = message.header.stamp
        self._scores[stamp.sec, stamp.nanosec] = sum(hand.score for hand in message.hands)

    def _on_overlay(self, message: Any, received_s: float) -> None:
        from hand_pose_3d.ros.conversions import image_to_rgb

        stamp = message.header.stamp
        stamp_s = stamp_seconds(stamp) or 0.0
        self.video.add(image_to_rgb(message), stamp_s, self._scores.pop((stamp.sec, stamp.nanosec), 0.0))

    def _on_diagnostics(self, message: Any, received_s: float) -> None:
        self.diagnosis = parse(message, NODE_NAME) or self.diagnosis


def main(arguments: Sequence[str] | None = None, node_command: Sequence[str] = play.NODE) -> int:
    """Run the demo. node_command: what Python runs as the node. Returns the exit status."""
    options = _arguments(arguments)
    return play.run("hand_pose_3d demo", options, RESULTS, lambda pictures: Demo(options, pictures, node_command))


if __name__ == "__main__":
    sys.exit(main())
