"""The main job end to end: a source and the node in processes of their own, recorded from the topics.

    python -m hand_pose_3d.ros.demo [--input photo.jpg | video.mp4 | /dev/video0] [--out demo_output]

leaves overlay.mp4, overlay.png, a recording of the topics (MCAP, as `ros2 bag` writes it) and figures.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import HandPoseError, one_line
from hand_pose_3d.outputs import write_beside
from hand_pose_3d.ros import start
from hand_pose_3d.ros.children import Children, quiet_environment
from hand_pose_3d.ros.diagnostics import Diagnosis, parse
from hand_pose_3d.ros.pictures import Pictures, open_pictures
from hand_pose_3d.ros.share import own_arguments

NODE = ("-m", "hand_pose_3d.ros.node")
_NODE = "/hand_pose_3d"
_SECONDS = {"clip": 10.0, "photo": 5.0, "camera": 15.0, "video": 60.0}
"""How long each kind of input plays; a video ends earlier when it is over."""

_START_TIMEOUT_S = 300.0

RESULTS = ("overlay.mp4", "overlay.png", "recording", "figures.txt")
_LIST = ".hand_pose_3d_demo.json"
"""Names in the folder of results the files that the last run has left there."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hand_pose_3d.ros.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--input", default="", help="photograph, video or /dev/videoN; default: the built-in clip")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for the results")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long to run; default: by the kind of input")
    parser.add_argument("--camera-file", default="", help="YAML calibration of the camera, for metres")
    parser.add_argument("--model", default="auto", help="networks: auto, lite or paper")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser.parse_args(own_arguments(arguments))


class Demo:
    """One run: starts the processes, listens to the topics, writes the results."""

    def __init__(self, options: argparse.Namespace, pictures: Pictures, node_command: Sequence[str] = NODE) -> None:
        import rclpy

        from hand_pose_3d.ros.recording import Figures, OverlayVideo, Recorder

        start.init()
        self.ros = rclpy.create_node("hand_pose_3d_demo")
        self.options, self.pictures, self.node_command = options, pictures, node_command
        self.children = Children()
        self.figures = Figures()
        self.video = OverlayVideo(options.out / "overlay.mp4", options.out / "overlay.png", pictures.rate_hz)
        self.recorder = Recorder(options.out / "recording")
        self.written = [options.out / "recording"]
        self.diagnosis: Diagnosis | None = None
        self._scores: dict[tuple[int, int], float] = {}
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_down, name="recorder")
        self._writer.start()

    def run(self) -> None:
        """Play the input through the node. Raises HandPoseError when the node does not start or does not answer."""
        options, kind = self.options, self.pictures.kind
        node = self.children.start(self.node_command, model=options.model, device=options.device)
        self._listen()
        end = time.monotonic() + _START_TIMEOUT_S
        while not self._is_active():
            if node.poll() is not None:
                raise HandPoseError("the node did not start; what it said stands above")
            if time.monotonic() > end:
                raise HandPoseError(f"the node was not ready after {_START_TIMEOUT_S:.0f} s")
            self._spin(0.1)
        source = self.children.start(
            ("-m", "hand_pose_3d.ros.image_source"),
            input=as_parameter(options.input),
            camera_file=as_parameter(options.camera_file),
            duration=float(options.seconds or _SECONDS[kind]),
            loop=kind != "video" or bool(options.seconds),
            wait_for=2,
        )
        while source.poll() is None:
            if node.poll() is not None:
                raise HandPoseError("the node ended before its input did; what it said stands above")
            self._spin(0.1)
        if source.returncode:
            raise HandPoseError("the image source failed; what it said stands above")
        self._spin(1.5)
        if not self.figures.answers:
            raise HandPoseError("the node answered no image")

    def close(self) -> None:
        """Stop the processes and finish the files."""
        import rclpy

        self.children.stop()
        self._received.put(None)
        self._writer.join()
        self.recorder.close()
        self.written += self.video.close()
        self.ros.destroy_node()
        rclpy.try_shutdown()

    def table(self) -> str:
        """The figures as text."""
        rows = self.figures.rows()
        if self.diagnosis is not None:
            said = self.diagnosis
            rows.insert(3, ("  replaced in the node by newer ones", str(said.replaced)))
            rows.append(("networks", f"{said.model} on {said.device}"))
            rows.append(("metric placement", said.placement))
            rows += [
                (name, f"{p50:.1f} / {p95:.1f} ms (p50 / p95)")
                for name, (p50, p95) in said.stages_ms.items()
                if not name.startswith("stamp")
            ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

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
            (f"{_NODE}/hands", HandPose3DArray),
            (f"{_NODE}/hand", HandPose3D),
            (f"{_NODE}/markers", MarkerArray),
            (f"{_NODE}/joint_states", JointState),
            (f"{_NODE}/overlay", Image),
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
        # The overlay is in the video; raw, it would double the recording.
        recorded = not topic.endswith("/overlay")
        handler = {
            "/image": self._on_image,
            f"{_NODE}/hands": self._on_hands,
            f"{_NODE}/overlay": self._on_overlay,
            "/diagnostics": self._on_diagnostics,
        }.get(topic)

        def write(data: bytes, received_ns: int) -> None:
            if handler is not None:
                handler(deserialize_message(data, kind), 1e-9 * received_ns)
            if recorded:
                self.recorder.write(topic, f"{package}/msg/{name}", data, received_ns)

        def receive(data: bytes) -> None:
            # Only the time is taken here: compressing and drawing must not delay what is measured.
            self._received.put((write, data, self.ros.get_clock().now().nanoseconds))

        return receive

    def _write_down(self) -> None:
        while (entry := self._received.get()) is not None:
            write, data, received_ns = entry
            write(data, received_ns)

    def _on_image(self, message: Any, received_s: float) -> None:
        self.figures.image(message.header.stamp, received_s)

    def _on_hands(self, message: Any, received_s: float) -> None:
        self.figures.answer(message, received_s)
        stamp = message.header.stamp
        self._scores[stamp.sec, stamp.nanosec] = sum(hand.score for hand in message.hands)

    def _on_overlay(self, message: Any, received_s: float) -> None:
        from hand_pose_3d.ros.conversions import image_to_rgb

        stamp = message.header.stamp
        stamp_s = stamp.sec + 1e-9 * stamp.nanosec
        self.video.add(image_to_rgb(message), stamp_s, self._scores.pop((stamp.sec, stamp.nanosec), 0.0))

    def _on_diagnostics(self, message: Any, received_s: float) -> None:
        self.diagnosis = parse(message, _NODE) or self.diagnosis

    def _is_active(self) -> bool:
        return (
            self.diagnosis is not None
            and self.diagnosis.state == "active"
            and self.ros.count_subscribers("/image") >= 2
        )

    def _spin(self, seconds: float) -> None:
        import rclpy

        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.ros, timeout_sec=left)


def as_parameter(name: str) -> str:
    """A file's name as a ROS parameter, which is UTF-8: as a file: URL where it is anything else than ASCII."""
    return name if name.isascii() else Path(os.path.abspath(os.path.expanduser(name))).as_uri()


def prepare(out: Path, inputs: Sequence[str], results: Sequence[str] = RESULTS) -> None:
    """Make the folder for the results and take away those of an earlier run, as that listed them.

    Raises HandPoseError, and changes nothing, where something else is in their place.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = [path for name in results for path in _tree(out / name)]
        earlier = _listed(out)
        for path in there:
            if any(os.path.exists(each) and path.samefile(each) for each in inputs):
                raise HandPoseError(f"{path} is the input and lies where a result belongs: choose another --out")
            if not path.is_dir() and _state(path) != earlier.get(str(path.relative_to(out))):
                raise HandPoseError(
                    f"{path} is no result of an earlier demo, or was changed since: move it away, or choose another "
                    "folder with --out (make demo OUT=FOLDER)"
                )
        for path in reversed(there):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise HandPoseError(f"cannot write to the folder {out}: {error.strerror}") from error


def _tree(path: Path) -> list[Path]:
    """A file, or a folder and everything in it; nothing if it is not there."""
    if not os.path.lexists(path):
        return []
    return [path, *(sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else ())]


def _state(path: Path) -> list[int]:
    found = path.lstat()
    return [found.st_size, found.st_mtime_ns]


def _listed(out: Path) -> dict[str, list[int]]:
    """Files that an earlier run has left, with size and time of change."""
    try:
        listed = json.loads((out / _LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return listed if isinstance(listed, dict) else {}


def remember(out: Path, written: Sequence[Path]) -> None:
    """List the results for the next run, which takes them away."""
    files = [path for each in written for path in _tree(each) if path.is_file()]
    (out / _LIST).write_text(json.dumps({str(path.relative_to(out)): _state(path) for path in files}))


def main(arguments: Sequence[str] | None = None, node_command: Sequence[str] = NODE) -> int:
    """Run the demo. node_command: what Python runs as the node. Returns the exit status."""
    options = _arguments(arguments)
    try:
        # Here, too, so that bad input is said once and before anything starts.
        pictures = open_pictures(options.input, camera_file=options.camera_file)
        if pictures.live:
            pictures.close()  # for the process that shows it
        prepare(options.out, [options.input, options.camera_file])
        quiet_environment()
        shown = one_line(options.input) or "built-in clip"
        print(f"hand_pose_3d demo: {shown}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}")
        demo = Demo(options, pictures, node_command)
        try:
            demo.run()
        finally:
            demo.close()
            remember(options.out, demo.written)
    except HandPoseError as error:
        print(f"hand_pose_3d demo: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    table = demo.table()
    demo.written.append(write_beside(options.out / "figures.txt", f"{table}\n".encode()))
    remember(options.out, demo.written)
    print(f"\n{table}\n")
    for path in demo.written:
        print(one_line(path))
    if not demo.figures.with_hand:
        print("No hand was found in the input.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
