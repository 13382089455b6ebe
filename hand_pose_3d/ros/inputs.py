"""What the node subscribes to: images, CameraInfo and depth, checked at the door."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.conversions import camera_from_info, check_camera_fits, depth_to_metres
from hand_pose_3d.ros.diagnostics import Health
from hand_pose_3d.ros.messages import stamp_seconds
from hand_pose_3d.ros.parameters import NodeParameters

_JUMP_S = 1.0
"""A stamp older than the last by more than this is a clock that was set back, not a late image."""


@dataclass(frozen=True)
class Frame:
    """An image message on its way to the estimator."""

    message: Any
    compressed: bool
    arrival: float
    stamp_s: float | None
    time_jumped: bool = False


class StampGate:
    """Tells late images from clocks that went back. Stamps in seconds."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._late: float | None = None

    def judge(self, stamp_s: float | None) -> str:
        """'new', 'repeated', 'late' (older than the last image) or 'jumped' (time itself went back).

        One older image is late; a second one in a row that is newer than the first means that time jumped, as it does
        when a recording starts over. Images without a stamp are new.
        """
        last, late = self._last, self._late
        if stamp_s is None or last is None or stamp_s > last:
            self._last, self._late = (last if stamp_s is None else stamp_s), None
            return "new"
        if stamp_s == last:
            return "repeated"
        if last - stamp_s > _JUMP_S or (late is not None and stamp_s > late):
            self._last, self._late = stamp_s, None
            return "jumped"
        self._late = stamp_s
        return "late"


class Inputs:
    """The node's subscriptions. Images go to `deliver`; the newest camera and depth are kept for the asking."""

    def __init__(self, node: Any, parameters: NodeParameters, health: Health, deliver: Callable[[Frame], None]) -> None:
        self._node, self._health, self._deliver = node, health, deliver
        self._parameters = parameters
        self._gate = StampGate()
        self._subscriptions: dict[str, Any] = {}
        self._reliability: dict[str, bool] = {}
        self._camera_info: Any = None
        self._camera: Camera | None = None
        self._depths: deque[tuple[float | None, Any]] = deque(maxlen=8)
        self.qos_mismatch = ""
        self.subscribe(parameters)

    @property
    def image_topic(self) -> str:
        """Full name of the image topic."""
        base = self._node.resolve_topic_name("image")
        if self._parameters.image_transport == "raw":
            return base
        # As image_transport does: what follows the (remapped) name of the image, unless it is remapped itself.
        own = self._node.resolve_topic_name("image/compressed")
        unchanged = self._node.resolve_topic_name("image/compressed", only_expand=True)
        return f"{base}/compressed" if own == unchanged else own

    @property
    def publishers(self) -> int:
        """How many publishers the image topic has."""
        return self._node.count_publishers(self.image_topic)

    def subscribe(self, parameters: NodeParameters) -> None:
        """(Re)make the subscriptions that these parameters ask for."""
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image

        self.close()
        self._parameters = parameters
        compressed = parameters.image_transport == "compressed"
        self._make("image", CompressedImage if compressed else Image, self.image_topic, self._on_image)
        self._make("depth", Image, "depth", self._on_depth)
        # Best effort matches every publisher, and CameraInfo is repeated anyway.
        self._make("camera_info", CameraInfo, "camera_info", self._on_camera_info, reliable=False)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._reliability.clear()

    def adapt(self) -> None:
        """Follow the publishers' reliability while parameter `reliability` is auto; call now and then."""
        if self._parameters.reliability != "auto":
            return
        for name in ("image", "depth"):
            old = self._subscriptions.get(name)
            if old is not None and self._all_reliable(old.topic_name) not in (None, self._reliability[name]):
                kind, topic, callback = old.msg_type, old.topic_name, old.callback
                self._node.destroy_subscription(old)
                self._make(name, kind, topic, callback)

    @property
    def missing(self) -> tuple[str, ...]:
        """Full names of the topics camera_info and depth, if nothing (usable) came on them."""
        have = {"camera_info": self._camera is not None, "depth": bool(self._depths)}
        return tuple(self._node.resolve_topic_name(name) for name, came in have.items() if not came)

    def camera(self, shape: tuple[int, ...]) -> Camera | None:
        """The camera for images of this shape; None when there is none. Raises InvalidInputError if it does not fit."""
        camera = self._camera
        if camera is not None:
            check_camera_fits(camera, shape)
        return camera

    def depth(self, stamp_s: float | None, shape: tuple[int, ...]) -> np.ndarray | None:
        """Depth in metres for an image, by nearest stamp; None when there is none. Raises InvalidInputError."""
        candidates = list(self._depths)
        if not candidates:
            return None
        if stamp_s is None:
            stamp, message = candidates[-1]
        else:
            stamp, message = min(candidates, key=lambda entry: abs((entry[0] or 0.0) - stamp_s))
            if stamp is None or abs(stamp - stamp_s) > self._parameters.max_depth_offset:
                return None
        if (message.height, message.width) != tuple(shape[:2]):
            raise InvalidInputError(
                f"depth of {message.width}x{message.height} pixels is not registered to images of {shape[1]}x{shape[0]}"
            )
        return depth_to_metres(message)

    def update(self, parameters: NodeParameters) -> None:
        """Follow parameters that changed."""
        if (parameters.image_transport, parameters.reliability) != (
            self._parameters.image_transport,
            self._parameters.reliability,
        ):
            self.subscribe(parameters)
        rectified_changed = parameters.rectified != self._parameters.rectified
        self._parameters = parameters
        if rectified_changed and self._camera_info is not None:
            self._on_camera_info(self._camera_info)

    def _make(self, name: str, kind: Any, topic: str, callback: Any, reliable: bool | None = None) -> None:
        from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
        from rclpy.qos_overriding_options import QoSOverridingOptions

        try:
            from rclpy.event_handler import SubscriptionEventCallbacks
        except ImportError:  # Humble
            from rclpy.qos_event import SubscriptionEventCallbacks

        if reliable is None:
            wanted = self._parameters.reliability
            full = self._node.resolve_topic_name(topic)
            reliable = bool(self._all_reliable(full)) if wanted == "auto" else wanted == "reliable"
        self._reliability[name] = reliable
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

        def mismatch(event: Any) -> None:
            self.qos_mismatch = (
                f"a publisher of {topic} offers a QoS that parameter reliability={self._parameters.reliability} does "
                f"not accept (policy {event.last_policy_kind})"
            )
            self._node.get_logger().warning(self.qos_mismatch, throttle_duration_sec=10.0)

        self._subscriptions[name] = self._node.create_subscription(
            kind,
            topic,
            callback,
            profile,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=mismatch),
            # Reliability is the node's own parameter: an override would freeze what `auto` has to change.
            qos_overriding_options=QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)),
        )

    def _all_reliable(self, topic: str) -> bool | None:
        from rclpy.qos import ReliabilityPolicy

        offers = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(topic)]
        return all(offer == ReliabilityPolicy.RELIABLE for offer in offers) if offers else None

    def _on_image(self, message: Any) -> None:
        now = time.monotonic()
        stamp_s = stamp_seconds(message.header.stamp)
        age_s = None
        if stamp_s is not None:
            age_s = 1e-9 * self._node.get_clock().now().nanoseconds - stamp_s
        self._health.image_arrived(now, age_s)
        limit = self._parameters.max_image_age
        if limit > 0 and age_s is not None and age_s > limit:
            self._health.count("stale", f"{age_s:.2f} s old, max_image_age is {limit:g} s")
            return
        verdict = self._gate.judge(stamp_s)
        if verdict in ("late", "repeated"):
            self._health.count(verdict)
        if verdict == "late":
            return
        compressed = self._parameters.image_transport == "compressed"
        self._deliver(Frame(message, compressed, now, stamp_s, time_jumped=verdict == "jumped"))

    def _on_camera_info(self, message: Any) -> None:
        try:
            self._camera = camera_from_info(message, rectified=self._parameters.rectified)
            self._camera_info = message
        except InvalidInputError as error:
            self._health.count("rejected_camera_info", str(error))
            self._node.get_logger().warning(f"camera_info rejected: {error}", throttle_duration_sec=5.0)

    def _on_depth(self, message: Any) -> None:
        self._depths.append((stamp_seconds(message.header.stamp), message))
