"""Latency from image published to HandPose3DArray received, between the node and the image source as processes.

    python -m hand_pose_3d.ros.latency [--rate 30 --rate 60] [--size 640x480 --size 1920x1080]

prints JSON, one row per size and rate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError, InvalidInputError, check_numbers
from hand_pose_3d.evaluation.benchmark.frames import Clip, resized
from hand_pose_3d.evaluation.benchmark.process import memory_mb
from hand_pose_3d.images import CLIP
from hand_pose_3d.interrupts import ending
from hand_pose_3d.ros import start
from hand_pose_3d.ros.children import Children, are_connected, quiet_environment
from hand_pose_3d.ros.diagnostics import Diagnosis, parse
from hand_pose_3d.ros.pictures import Pictures, open_pictures
from hand_pose_3d.ros.play import NODE, NODE_NAME, START_TIMEOUT_S
from hand_pose_3d.ros.share import options_of, own_arguments, ros_arguments
from hand_pose_3d.settings import parse_size

_SOURCE = ("-m", "hand_pose_3d.ros.image_source")
_WARM_UP_S = 1.0  # time whose images do not count
_VIDEO_FRAMES = 150  # of the resized clip: all of it


def latencies(
    published: Sequence[int], answered: dict[int, int], warm_up_s: float = _WARM_UP_S
) -> dict[str, float | int | None]:
    """Metrics of one run; images of the first warm_up_s seconds do not count.

    published: stamps in nanoseconds; answered: stamp -> arrival of its hands message in nanoseconds of the same clock.
    """
    begin = min(published, default=0) + round(1e9 * warm_up_s)
    counted = [stamp for stamp in published if stamp >= begin]
    times = [1e-6 * (answered[stamp] - stamp) for stamp in counted if stamp in answered]
    marks = [float(x) for x in np.percentile(times, [50, 95, 99, 100])] if times else [None] * 4
    span = 1e-9 * (counted[-1] - counted[0]) if len(counted) > 1 else 0.0
    return {
        "published": len(counted),
        "answered": len(times),
        "dropped": len(counted) - len(times),
        "measured_rate_hz": (len(counted) - 1) / span if span else None,
        **dict(zip(("p50_ms", "p95_ms", "p99_ms", "max_ms"), marks)),
    }


def cpu_seconds(pid: int) -> float | None:
    """Processor time of a process in seconds; None where there is no /proc."""
    path = Path(f"/proc/{pid}/stat")
    if not path.is_file():
        return None
    fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Listener:
    """Records when images were stamped and when their hands arrived, without receiving the images themselves."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo

        from hand_pose_3d.msg import HandPose3DArray

        self.ros = rclpy.create_node("hand_pose_3d_latency")
        # Added for the whole run: rclpy.spin_once would add and remove the node at each call, before it receives
        # anything.
        self._executor = rclpy.get_global_executor()
        self._executor.add_node(self.ros)
        self.published: list[int] = []
        self.answered: dict[int, int] = {}
        self.with_hand = 0
        self.diagnosis: Diagnosis | None = None
        deep = QoSProfile(depth=100)
        # Every image comes with a camera_info of the same stamp, which costs next to nothing to receive.
        self.ros.create_subscription(CameraInfo, "/camera_info", self._on_camera_info, deep)
        self.ros.create_subscription(HandPose3DArray, f"{NODE_NAME}/hands", self._on_hands, deep)
        self.ros.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, deep)

    def spin(self, seconds: float) -> None:
        """Receive for a time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Destroy the node."""
        self._executor.remove_node(self.ros)
        self.ros.destroy_node()

    def _on_camera_info(self, message: Any) -> None:
        self.published.append(_nanoseconds(message.header.stamp))

    def _on_hands(self, message: Any) -> None:
        self.answered[_nanoseconds(message.header.stamp)] = self.ros.get_clock().now().nanoseconds
        self.with_hand += bool(message.hands)

    def _on_diagnostics(self, message: Any) -> None:
        self.diagnosis = parse(message, NODE_NAME) or self.diagnosis


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def run(
    source: dict[str, Any], node: dict[str, Any], rate_hz: float, seconds: float, program: Sequence[str] = NODE
) -> dict[str, Any]:
    """Metrics of one run. source, node: parameters of the two. Raises HandPoseError if one of them fails."""
    begin = time.monotonic()
    # Output of the processes goes to standard error: standard output holds the metrics.
    listener, children = Listener(), Children(sys.stderr)
    try:
        worker = children.start(program, node)
        while not are_connected(listener.ros):
            if worker.poll() is not None:
                raise HandPoseError("the node did not start; its output is above")
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise HandPoseError(f"the node did not get ready within {START_TIMEOUT_S:.0f} s")
            listener.spin(0.02)
        ready_s = time.monotonic() - begin
        before, began = cpu_seconds(worker.pid), time.monotonic()
        # The input begins when the node is subscribed to images, and the listener to their camera_info.
        parameters = {**source, "longest_side": 0, "rate": rate_hz, "duration": seconds + _WARM_UP_S, "loop": True}
        images = children.start(_SOURCE, parameters, wait_for=1, wait_for_info=2)
        early = memory_mb(worker.pid)
        while images.poll() is None:
            if time.monotonic() - began < _WARM_UP_S + 0.1 * seconds:
                early = memory_mb(worker.pid)
            if worker.poll() is not None:
                raise HandPoseError("the node ended before its input did")
            listener.spin(0.1)
        if images.returncode:
            raise HandPoseError("the image source failed")
        after, took = cpu_seconds(worker.pid), time.monotonic() - began
        listener.spin(1.5)
        memory = memory_mb(worker.pid)
    finally:
        children.stop()
        listener.close()
    said = listener.diagnosis
    return {
        "rate_hz": rate_hz,
        "device": said.device if said else None,
        **latencies(listener.published, listener.answered),
        "with_hand": listener.with_hand,
        "node_ready_s": ready_s,
        "node_rss_early_mb": early["rss_mb"],  # after a tenth of the run, to show whether memory grows
        "node_rss_mb": memory["rss_mb"],
        "node_cores": None if before is None or after is None else (after - before) / took,
        "stages": {name: {"p50_ms": p50, "p95_ms": p95} for name, (p50, p95) in said.stages_ms.items()} if said else {},
    }


def write_input(pictures: Pictures, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """The clip at another size, (width, height), as a video with its camera; parameters of the image source."""
    import yaml

    from hand_pose_3d.outputs import VideoWriter

    frames = [frame for _, frame in zip(range(_VIDEO_FRAMES), pictures.start())]
    if (frames[0].shape[1], frames[0].shape[0]) == size:
        return {"input": str(CLIP), "source": "clip"}
    if pictures.camera is None:
        raise HandPoseError("the clip has no camera")
    larger = resized(Clip("clip", frames, pictures.camera, []), size)
    video, camera = folder / f"{size[0]}.mp4", folder / f"{size[0]}.yaml"
    writer = VideoWriter(video, pictures.rate_hz)
    for number, frame in enumerate(larger.frames):
        writer.add(frame, number / pictures.rate_hz)
    writer.close()
    calibration = {
        "image_width": size[0],
        "image_height": size[1],
        "camera_matrix": {"rows": 3, "cols": 3, "data": larger.camera.matrix.ravel().tolist()},
        "distortion_model": larger.camera.model,
        "distortion_coefficients": {"data": list(larger.camera.distortion)},
    }
    camera.write_text(yaml.safe_dump(calibration), encoding="utf-8")
    return {"input": str(video), "source": "video", "camera_file": str(camera)}


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = parse_size(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 16 <= min(width, height) <= max(width, height) <= 8192:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 16x16 and 8192x8192")
    return width, height


def _positive(text: str) -> float:
    try:
        value = float(text)
        check_numbers({"it": value}, positive=True)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number") from None
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_of("latency", __doc__)
    parser.add_argument(
        "--rate", dest="rates", type=_positive, action="append", help="Hz; repeatable; default 30 and 60"
    )
    parser.add_argument("--size", dest="sizes", type=_size, action="append", help="default 640x480 and 1920x1080")
    parser.add_argument("--seconds", type=_positive, default=20.0, help="how long each rate and size is measured")
    parser.add_argument("--model", default="auto", help="networks: auto, lite or paper")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, float16, bfloat16 or int8")
    parser.add_argument("--weights", default="", help="folder with other weights")
    parser.add_argument("--max-hands", type=int, default=1, help="most hands in one image")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: as by default")
    for name in ("--search", "--keypoints"):
        parser.add_argument(name, default="auto", help="auto, fast or thorough")
    if ros_arguments(arguments):
        parser.error("the nodes that are measured take these options and no ROS arguments")
    return parser.parse_args(own_arguments(arguments))


def main(arguments: Sequence[str] | None = None, program: Sequence[str] = NODE) -> int:
    """Measure and print. program: what Python runs as the node. Returns the exit status."""
    options = _arguments(arguments)
    quiet_environment()
    names = ("model", "device", "precision", "max_hands", "threads", "search", "keypoints")
    node = {"tracking": True, **{name: getattr(options, name) for name in names}}
    if options.weights:
        node["weights"] = options.weights
    rows = []
    sizes, rates = options.sizes or [(640, 480), (1920, 1080)], options.rates or [30.0, 60.0]
    try:
        with start.process([]), ending(), tempfile.TemporaryDirectory() as folder:
            pictures = open_pictures("")
            for size in sizes:
                source = write_input(pictures, size, Path(folder))
                for rate_hz in rates:
                    row = run(source, node, rate_hz, options.seconds, program)
                    setting = {"model": options.model, "precision": options.precision}
                    rows.append({**setting, "width": size[0], "height": size[1], **row})
    except HandPoseError as error:
        print(f"hand_pose_3d.ros.latency: {error}", file=sys.stderr)
        return 1
    if len(rows) < len(sizes) * len(rates):
        return 130
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
