"""Depth images, matched with the images of the same moment; and why depth was not used, in words.

Nothing here imports ROS: any object with the fields of sensor_msgs/Image will do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.ros.conversions import depth_to_metres
from hand_pose_3d.ros.messages import same_frame

_KEPT = 16  # newest depth images, and images without depth: half a second at 30 Hz
_RATE_SAMPLES = 5
"""Number of last depth images from which their rate is estimated."""
_MAX_FAILURES = 10
"""Consecutive images without depth after which images no longer wait for it, until a depth image comes late; set by
hand."""
_OLD_S = 10.0
"""Depth that arrived so long before its image is of an earlier recording or simulation with the same stamps."""
_FAR_M = 20.0
"""A depth image with nothing nearer is refused as in another unit: hands are within a few metres."""


@dataclass(frozen=True)
class _Depth:
    message: Any
    stamp_s: float | None
    arrival: float


class DepthImages:
    """The newest depth images. `add` may be called by another thread than `take`, which waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._images: deque[_Depth] = deque(maxlen=_KEPT)
        self._without: deque[float] = deque(maxlen=_KEPT)  # stamps of images whose depth did not come
        self._failures = 0
        self._offset_s = 0.0
        self._closed = False

    def forget(self, before: float) -> None:
        """Forget what arrived before that moment, because time jumped: its stamps are of another time."""
        with self._changed:
            self._images = deque((each for each in self._images if each.arrival >= before), maxlen=_KEPT)
            self._without.clear()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __bool__(self) -> bool:
        return bool(self._images)

    def add(self, message: Any, stamp_s: float | None, arrival: float) -> None:
        """Add a depth image. arrival: monotonic seconds."""
        with self._changed:
            self._images.append(_Depth(message, stamp_s, arrival))
            if stamp_s is not None and any(abs(stamp_s - other) <= self._offset_s for other in self._without):
                self._failures = 0  # it came late: waiting helps
            self._changed.notify_all()

    def take(self, stamp_s: float, arrival: float, max_offset_s: float, wait_s: float) -> Any | None:
        """The depth message of the image with this stamp, waited for until wait_s after the image's arrival.

        It is the nearest in time within max_offset_s that does not belong to another image; None without one.
        """
        with self._changed:
            self._offset_s = max_offset_s
            found = self._find(stamp_s, arrival, max_offset_s)
            while found is None and not self._closed and self._due(stamp_s, max_offset_s):
                rest = arrival + wait_s - time.monotonic()
                if rest <= 0 or not self._changed.wait(rest):
                    break
                found = self._find(stamp_s, arrival, max_offset_s)
            if found is None:
                self._failures += 1
                self._without.append(stamp_s)
                return None
            self._failures = 0
            return found.message

    def nearest_s(self, stamp_s: float) -> float | None:
        """Offset in seconds of the nearest stamp of a depth image from this one; None if none has a stamp."""
        with self._changed:
            gaps = [entry.stamp_s - stamp_s for entry in self._images if entry.stamp_s is not None]
        return min(gaps, key=abs) if gaps else None

    def _find(self, stamp_s: float, arrival: float, max_offset_s: float) -> _Depth | None:
        limit = self.limit_s(max_offset_s)
        near = [
            (abs(entry.stamp_s - stamp_s), -entry.arrival, entry)
            for entry in self._images
            if entry.stamp_s is not None and arrival - entry.arrival < _OLD_S
        ]
        offset_s, _, entry = min(near, key=lambda item: item[:2], default=(float("inf"), 0.0, None))
        return entry if offset_s <= limit else None

    def limit_s(self, max_offset_s: float) -> float:
        """The offset that is allowed: below half of the time between two depth images, whatever was asked for."""
        with self._changed:
            gap_s = self._gap_s()
        return max_offset_s if gap_s is None else min(max_offset_s, 0.49 * gap_s)

    def _gap_s(self) -> float | None:
        """Usual time between two depth images, by their stamps; one that comes twice does not change it."""
        stamps = [entry.stamp_s for entry in self._images if entry.stamp_s is not None]
        gaps = sorted(b - a for a, b in zip(stamps, stamps[1:], strict=False) if b > a)
        return gaps[len(gaps) // 2] if gaps else None

    def _due(self, stamp_s: float, max_offset_s: float) -> bool:
        """Whether the depth of an image may still arrive, by the rate of depth images."""
        if self._failures >= _MAX_FAILURES:
            return False
        last = next((entry.stamp_s for entry in reversed(self._images) if entry.stamp_s is not None), None)
        if last is None:
            return True
        if last > stamp_s + max_offset_s:
            return False  # a later one has arrived already
        gap_s = self._gap_s()
        if len(self._images) < _RATE_SAMPLES or gap_s is None:
            return True
        return last + gap_s - stamp_s <= self.limit_s(max_offset_s)


def check_registered(message: Any, frame_id: str, shape: tuple[int, ...]) -> None:
    """Raise InvalidInputError unless a depth message has the frame and the size (H, W, ...) of its image."""
    if not same_frame(message.header.frame_id, frame_id):
        raise InvalidInputError(
            f"depth of frame {message.header.frame_id!r} is not registered to images of frame {frame_id!r}: take the "
            "depth that the driver aligns to the colour image"
        )
    if (message.height, message.width) != tuple(shape[:2]):
        raise InvalidInputError(
            f"depth of {message.width}x{message.height} pixels is not registered to images of {shape[1]}x{shape[0]}"
        )


def checked_depth(message: Any) -> np.ndarray:
    """Depth (H, W) float32 in metres, NaN where unknown. Raises InvalidInputError for an empty one or another unit."""
    depth_m = depth_to_metres(message)
    known = np.isfinite(depth_m)
    if not known.any():
        raise InvalidInputError("the depth image is empty: no pixel has a value")
    if message.encoding == "32FC1":
        nearest = float(np.percentile(depth_m[known][::7], 1))
        if nearest > _FAR_M:
            raise InvalidInputError(
                f"the depth image holds nothing nearer than {nearest:.0f} m: 32FC1 is in metres, 16UC1 in millimetres"
            )
    return depth_m


def what_was_used(hands: Sequence[HandPose], depth_m: np.ndarray | None) -> tuple[str, str]:
    """The source of metres of an image's hands, and why it is not its depth image; both in words, or ""."""
    sources = [hand.scale_source for hand in hands]
    words = {
        ScaleSource.DEPTH: "depth",
        ScaleSource.CALIBRATED: "reference length, calibrated",
        ScaleSource.ASSUMED: "reference length, assumed",
        ScaleSource.NONE: "none",
    }
    share = f" ({{}} of {len(sources)})" if len(set(sources)) > 1 else ""
    used = ", ".join(words[s] + share.format(sources.count(s)) for s in words if s in sources)
    used = used or "no hand in the last image"
    without = [hand for hand in hands if hand.scale_source != ScaleSource.DEPTH]
    if depth_m is None or not without:
        return used, ""
    return used, _why_not(without[0], depth_m)


def _why_not(hand: HandPose, depth_m: np.ndarray) -> str:
    height, width = depth_m.shape
    u, v = np.rint(np.clip(np.nan_to_num(hand.keypoints_px, nan=-1.0), -1, 1e6)).astype(int).T
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    seen = depth_m[v[inside], u[inside]]
    seen = seen[np.isfinite(seen)]
    if seen.size < 4:
        return "depth not used: it has no values where the hand is"
    near = "" if hand.keypoints_m is None else f", which by its size is at {hand.keypoints_m[0, 2]:.2f} m"
    return (
        f"depth not used: it reads {np.median(seen):.3g} m at the hand{near}; check its unit (16UC1 in millimetres, "
        "32FC1 in metres) and that it is registered to the image"
    )
