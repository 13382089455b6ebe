"""The node's subscription to CameraInfo, for as long as the node lives: drivers may publish it only once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.conversions import camera_from_info
from hand_pose_3d.ros.diagnostics import Health
from hand_pose_3d.ros.messages import stamp_seconds

_TOPIC = "camera_info"
_RECTIFIED, _RAW = (re.compile(rf"(^|_){word}(_|$)") for word in ("rect(ified)?", "raw"))
"""Words in the last part of a topic's name, as image_proc has them."""
_SAME_AXES = 1e-3
"""Radians between axes that count as the same; set by hand."""


class CameraInput:
    """Keeps the newest CameraInfo. heard: called with each stamp (None if zero) and its monotonic arrival."""

    def __init__(self, node: Any, health: Health, heard: Callable[[float | None, float], None]) -> None:
        from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
        from rclpy.qos_overriding_options import QoSOverridingOptions
        from sensor_msgs.msg import CameraInfo

        self._node, self._health, self._heard = node, health, heard
        self._message: Any = None
        self._camera: Camera | None = None
        self._refused = ""
        self._rectified = False
        self._latched: Any = None
        # Best effort and volatile, as this is: it matches every publisher.
        self._subscription = node.create_subscription(
            CameraInfo,
            _TOPIC,
            self._on_camera_info,
            QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)),
        )
        self.adapt()

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return self._subscription.topic_name

    @property
    def frame_id(self) -> str:
        """Name of the camera's frame; "" while no camera is known, and where it has none."""
        return self._message.header.frame_id if self._message is not None else ""

    def why_wrong(self, image_topic: str) -> str:
        """Why the images of a topic seem to be rectified ones taken for raw ones, or the reverse, in words, or ""."""
        if self._message is None:
            return ""
        r = np.array(self._message.r)
        turned = r.size == 9 and bool(r.any()) and float(np.abs(r.reshape(3, 3) - np.eye(3)).max()) > _SAME_AXES
        name = image_topic.removesuffix("/compressed").rpartition("/")[2]
        named = bool(_RECTIFIED.search(name))
        if not self._rectified and named and (turned or self._is_distorted()):
            return f"images on {image_topic} seem to be rectified: set parameter rectified, or directions are wrong"
        if self._rectified and not named and _RAW.search(name) and (turned or self._is_distorted()):
            return f"images on {image_topic} seem to be raw ones: take rectified ones, or unset parameter rectified"
        if not self._rectified and turned:
            return (
                "images are raw ones of a stereo pair, whose frame has the axes of rectified ones: take image_rect "
                "with parameter rectified"
            )
        return ""

    def _is_distorted(self) -> bool:
        """Whether raw images show directions elsewhere than rectified ones."""
        try:
            raw, rectified = (camera_from_info(self._message, rectified=each) for each in (False, True))
        except InvalidInputError:
            return False
        return raw is not None and rectified is not None and raw != rectified

    @property
    def known(self) -> bool:
        """Whether a calibrated camera is known."""
        return self._camera is not None

    def camera(self, shape: tuple[int, ...]) -> Camera | None:
        """The camera for images of this shape; None when there is none.

        Raises InvalidInputError if it does not fit, or if the last message was refused.
        """
        if self._refused:
            raise InvalidInputError(self._refused)
        return self._camera and self._camera.fitted_to(shape[1], shape[0])

    def adapt(self) -> None:
        """Subscribe to the last message of latching publishers, while there are any; called regularly."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        latched = any(
            info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            and info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for info in self._node.get_publishers_info_by_topic(self.topic)
        )
        # In addition to the other one, and only if needed: publishers that do not latch would report incompatible QoS.
        if latched and self._latched is None:
            profile = QoSProfile(
                depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
            )
            kind = self._subscription.msg_type
            self._latched = self._node.create_subscription(kind, _TOPIC, self._on_camera_info, profile)
        elif not latched and self._latched is not None:
            self._node.destroy_subscription(self._latched)
            self._latched = None

    def set_rectified(self, rectified: bool) -> None:
        """Set whether the images are rectified; a change reads the last message again."""
        if rectified != self._rectified:
            self._rectified = rectified
            if self._message is not None:
                self._read(self._message)

    def _on_camera_info(self, message: Any) -> None:
        self._heard(stamp_seconds(message.header.stamp), time.monotonic())
        self._read(message)

    def _read(self, message: Any) -> None:
        self._message = message
        try:
            self._camera, self._refused = camera_from_info(message, rectified=self._rectified), ""
        except InvalidInputError as error:
            self._camera, self._refused = None, f"unknown: the last message on {self.topic} was refused: {error}"
            self._health.count("rejected_camera_info", str(error))
            self._node.get_logger().warning(f"camera_info rejected: {error}", throttle_duration_sec=5.0)
