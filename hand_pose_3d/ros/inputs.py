"""The node's subscriptions to images and depth while it is active. CameraInfo: :mod:`.camera_input`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros import start, topics
from hand_pose_3d.ros.depth import DepthImages, check_registered, checked_depth
from hand_pose_3d.ros.diagnostics import Health
from hand_pose_3d.ros.messages import stamp_seconds
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.ros.stream import StreamWatch

_QUEUES = {"image": 1, "depth": 5}  # messages that wait: of images only the newest
_JUMP_S = 1.0
"""A stamp older than the last by more than this means that the clock was set back; set by hand."""


@dataclass(frozen=True)
class ImageArrival:
    """An image message on its way to the estimator."""

    message: Any
    compressed: bool
    arrival: float
    stamp_s: float | None
    time_jumped: bool = False


class StampGate:
    """Distinguishes late images from clocks that were set back. Stamps in seconds."""

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


def image_topic(node: Any, image_transport: str) -> str:
    """Full name of the topic on which a node finds its images."""
    base = node.resolve_topic_name("image")
    if image_transport == "raw":
        return base
    # As image_transport does: a suffix of the (remapped) name of the image, unless it is remapped itself.
    own = node.resolve_topic_name("image/compressed")
    unchanged = node.resolve_topic_name("image/compressed", only_expand=True)
    return topics.compressed_topic(base) if own == unchanged else own


def check_topics(node: Any, image_transport: str) -> None:
    """Raise InvalidInputError when one topic would have two types, which no middleware can subscribe to."""
    image, info, depth = image_topic(node, image_transport), *map(node.resolve_topic_name, ("camera_info", "depth"))
    if info in (image, depth) or (image == depth and image_transport == "compressed"):
        raise InvalidInputError(
            f"one topic cannot have two types: image {image}, camera_info {info}, depth {depth}; remap them apart"
        )


class Inputs:
    """The node's subscriptions since the time `since`. Images go to `deliver`; depth images are kept for
    :meth:`depth`."""

    def __init__(
        self, node: Any, parameters: NodeParameters, health: Health, deliver: Callable[[ImageArrival], None]
    ) -> None:
        self._node, self._health, self._deliver = node, health, deliver
        self._parameters = parameters
        self._subscriptions: dict[str, Any] = {}
        self._reliability: dict[str, bool] = {}
        self._mismatches: dict[str, str] = {}
        self._depths, self._gate, self.since = DepthImages(), StampGate(), time.monotonic()
        self._depth_publishers, self._arrival = 0, 0.0
        try:
            self.subscribe(parameters)
        except Exception:
            self.close()
            raise

    @property
    def image_topic(self) -> str:
        """Full name of the image topic."""
        return image_topic(self._node, self._parameters.image_transport)

    @property
    def publishers(self) -> int:
        """Number of publishers of the image topic."""
        return self._node.count_publishers(self.image_topic)

    def subscribe(self, parameters: NodeParameters) -> None:
        """Create the subscriptions for these parameters, replacing earlier ones."""
        from sensor_msgs.msg import CompressedImage, Image

        self._unsubscribe()
        self._parameters = parameters
        self.watch, self._came = StreamWatch(), False
        compressed = parameters.image_transport == "compressed"
        self._make("image", CompressedImage if compressed else Image, self.image_topic, self._on_image)
        self._make("depth", Image, "depth", self._on_depth)
        self._depth_publishers = self._node.count_publishers(self.depth_topic)

    def close(self) -> None:
        """Unsubscribe for good; an image that waits for its depth goes on without."""
        self._depths.close()
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._reliability.clear()

    def adapt(self) -> None:
        """Follow the publishers' reliability while parameter `reliability` is auto; called regularly."""
        self._depth_publishers = self._node.count_publishers(self.depth_topic)
        if self._parameters.reliability != "auto":
            return
        for name in ("image", "depth"):
            old = self._subscriptions.get(name)
            if old is not None and self._all_reliable(old.topic_name) not in (None, self._reliability[name]):
                kind, topic, callback = old.msg_type, old.topic_name, old.callback
                self._node.destroy_subscription(old)
                self._make(name, kind, topic, callback)

    @property
    def depth_topic(self) -> str:
        """Full name of the depth topic."""
        return self._node.resolve_topic_name("depth")

    @property
    def depth_came(self) -> bool:
        """Whether any depth image has arrived."""
        return bool(self._depths)

    def depth(self, frame: ImageArrival, shape: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
        """Depth in metres at the time of an image, for which it waits, or None and why ("" without a depth camera).

        Raises InvalidInputError for depth that cannot be used.
        """
        if not self._depth_publishers and not self._depths:
            return None, ""
        if frame.stamp_s is None:
            return None, "no depth: the image has no stamp to match it with"
        offset_s, wait_s = self._parameters.max_depth_offset, self._parameters.depth_wait
        message = self._depths.take(frame.stamp_s, frame.arrival, offset_s, wait_s if self._depth_publishers else 0.0)
        if message is None:
            nearest_s = self._depths.nearest_s(frame.stamp_s)
            if nearest_s is None:
                return None, f"no depth: nothing with a stamp arrived on {self.depth_topic}"
            side = "later" if nearest_s > 0 else "earlier"
            return None, (
                f"no depth of the image's moment: the nearest is {1e3 * abs(nearest_s):.0f} ms {side} "
                f"({1e3 * self._depths.limit_s(offset_s):.3g} ms are allowed by max_depth_offset and by the depth "
                f"images' rate, depth_wait is {1e3 * wait_s:g} ms)"
            )
        check_registered(message, frame.message.header.frame_id, shape)
        return checked_depth(message), ""

    def why_silent(self) -> str:
        """Why no image arrives although something is published, in words; "" after the first image, or if unknown."""
        if self._came:
            return ""
        wanted = topics.COMPRESSED if self._parameters.image_transport == "compressed" else topics.IMAGE
        images = {topics.IMAGE, topics.COMPRESSED}
        names = {name for name, kinds in self._node.get_topic_names_and_types() if images.intersection(kinds)}
        there = {name: self._types(name) for name in names - {self.depth_topic} | {self.image_topic}}
        return topics.why_silent(self.image_topic, wanted, there)

    def qos_mismatch(self, name: str) -> str:
        """Why a publisher of the input `name` (image or depth) is not heard, in words, or ""."""
        return self._mismatches.get(name, "")

    def notes(self) -> list[str]:
        """What is wrong with inputs beside the image, in words: publishers of another type or QoS."""
        wanted = {"camera_info": "sensor_msgs/msg/CameraInfo", "depth": topics.IMAGE}
        names = {self._node.resolve_topic_name(name): kind for name, kind in wanted.items()}
        found = [topics.wrong_type(name, kind, self._types(name)) for name, kind in names.items()]
        return [sentence for sentence in (*found, self.qos_mismatch("depth")) if sentence]

    def _types(self, topic: str) -> list[str]:
        """Types that others publish on a topic."""
        infos = self._node.get_publishers_info_by_topic(topic)
        own = self._node.get_name(), self._node.get_namespace()
        return sorted({info.topic_type for info in infos if (info.node_name, info.node_namespace) != own})

    def update(self, parameters: NodeParameters) -> None:
        """Apply changed parameters. Raises InvalidInputError, and keeps the old ones, for what rcl refuses."""
        old = self._parameters
        if (parameters.image_transport, parameters.reliability) != (old.image_transport, old.reliability):
            try:
                self.subscribe(parameters)
            except Exception as error:
                self.subscribe(old)
                raise InvalidInputError(f"cannot listen to images: {start.reason(error)}") from error
            self._health.restart(time.monotonic())
        self._parameters = parameters

    def _make(self, name: str, kind: Any, topic: str, callback: Any) -> None:
        from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
        from rclpy.qos_overriding_options import QoSOverridingOptions

        try:
            from rclpy.event_handler import SubscriptionEventCallbacks
        except ImportError:  # Humble
            from rclpy.qos_event import SubscriptionEventCallbacks

        wanted = self._parameters.reliability
        full = self._node.resolve_topic_name(topic)
        reliable = bool(self._all_reliable(full)) if wanted == "auto" else wanted == "reliable"
        self._reliability[name] = reliable
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=_QUEUES[name],
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

        def mismatch(event: Any) -> None:
            sentence = (
                f"a publisher of {topic} offers a QoS that parameter reliability={self._parameters.reliability} does "
                f"not accept (policy {event.last_policy_kind})"
            )
            self._mismatches[name] = sentence
            self._node.get_logger().warning(sentence, throttle_duration_sec=10.0)

        self._mismatches.pop(name, None)
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
        age_s, self._came = None, True
        self._mismatches.pop("image", None)
        if stamp_s is not None:
            age_s = 1e-9 * self._node.get_clock().now().nanoseconds - stamp_s
        self._health.image_arrived(now, age_s)
        self.watch.image(stamp_s)
        limit = self._parameters.max_image_age
        if limit > 0 and age_s is not None and age_s > limit:
            self._health.count("stale", f"{age_s:.2f} s old, max_image_age is {limit:g} s")
            return
        verdict = self._gate.judge(stamp_s)
        if verdict == "jumped":
            self.watch.time_jumped()
            self._depths.forget(self._arrival)  # the image before may be of the new time, too
        self._arrival = now
        if verdict != "new":
            self._health.count(verdict)
        if verdict == "late":
            return
        compressed = self._parameters.image_transport == "compressed"
        self._deliver(ImageArrival(message, compressed, now, stamp_s, time_jumped=verdict == "jumped"))

    def _on_depth(self, message: Any) -> None:
        self._mismatches.pop("depth", None)
        self._depths.add(message, stamp_seconds(message.header.stamp), time.monotonic())
