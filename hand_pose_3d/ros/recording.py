"""Records topics to MCAP, an overlay video, and metrics of rate and latency."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.outputs import VideoWriter, encode_image, write_beside
from hand_pose_3d.ros.share import find_share
from hand_pose_3d.skeleton import Side


@functools.cache
def typestore() -> Any:
    """Types of messages that rosbags reads and writes, the package's own included."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS2_JAZZY)
    for name, text in message_definitions().items():
        types.register(get_types_from_msg(text, name))
    return types


def message_definitions() -> dict[str, str]:
    """Text of the package's own .msg files by type name."""
    out = {}
    for name in ("HandPose3D", "HandPose3DArray"):
        path = find_share(f"msg/{name}.msg")
        if path is None:
            raise HandPoseError(f"{name}.msg is not installed: nothing can be recorded")
        out[f"hand_pose_3d/msg/{name}"] = path.read_text(encoding="utf-8")
    return out


class Recorder:
    """Writes serialised messages of any type to an MCAP file as rosbag2 does."""

    def __init__(self, folder: Path) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        self._types = typestore()
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, type_name: str, data: bytes, received_ns: int) -> None:
        """Add one message."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, type_name, typestore=self._types)
        self._writer.write(self._connections[topic], received_ns, data)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class OverlayVideo:
    """An MP4 of overlay images, and the best of them as a PNG."""

    def __init__(self, video: Path, still: Path, rate_hz: float) -> None:
        self._video, self._still = VideoWriter(video, rate_hz), still
        self._best: tuple[float, np.ndarray | None] = (-1.0, None)

    def add(self, image_rgb: np.ndarray, stamp_s: float, score: float) -> None:
        """Add a picture, shown until the next one's stamp; the one with the highest score becomes the still."""
        self._video.add(image_rgb, stamp_s)
        if score > self._best[0]:
            self._best = score, image_rgb

    def close(self) -> list[Path]:
        """Finish the files; returns those that were written."""
        video, still = self._video.close(), self._best[1]
        written = [] if still is None else [write_beside(self._still, encode_image(still))]
        return written if video is None else [video, *written]


class TopicMetrics:
    """Rate, latency and hands, from the messages on topics."""

    def __init__(self) -> None:
        self._images: dict[tuple[int, int], float] = {}
        self._results: dict[tuple[int, int], tuple[float, int]] = {}
        self._latencies: list[float] = []
        self._sides: Counter[str] = Counter()

    def image(self, stamp: Any, received_s: float) -> None:
        """An image was received; times are seconds of the clock that stamps images."""
        self._images[stamp.sec, stamp.nanosec] = received_s

    def hands(self, array: Any, received_s: float) -> None:
        """A HandPose3DArray was received."""
        stamp = array.header.stamp
        self._results[stamp.sec, stamp.nanosec] = (received_s, len(array.hands))
        self._latencies.append(received_s - stamp.sec - 1e-9 * stamp.nanosec)
        self._sides.update(Side(hand.side).label for hand in array.hands)

    @property
    def results(self) -> int:
        """Number of images with a hands message."""
        return len(self._results)

    @property
    def with_hand(self) -> int:
        """Number of hands messages with a hand."""
        return sum(hands > 0 for _, hands in self._results.values())

    def rows(self) -> list[tuple[str, str]]:
        """The metrics to print, as (name, value)."""

        def rate(times: list[float]) -> str:
            span = times[-1] - times[0] if len(times) > 1 else 0.0
            return f"{(len(times) - 1) / span:.1f} Hz" if span else "-"

        rows = [
            ("images in", f"{len(self._images)} at {rate(sorted(self._images.values()))}"),
            ("hands messages out", f"{self.results} at {rate(sorted(t for t, _ in self._results.values()))}"),
            ("images without hands message", str(len(self._images.keys() - self._results.keys()))),
        ]
        if self._latencies:
            p50, p95, p99 = np.percentile(1e3 * np.array(self._latencies), [50, 95, 99])
            rows.append(("latency, image stamp to message", f"p50 {p50:.1f} / p95 {p95:.1f} / p99 {p99:.1f} ms"))
        sides = ", ".join(f"{count} {side}" for side, count in sorted(self._sides.items())) or "none"
        rows.append(("images with a hand", f"{self.with_hand} of {self.results}"))
        rows.append(("hands", sides))
        return rows
