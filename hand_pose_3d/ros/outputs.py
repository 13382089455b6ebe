"""What the node publishes for each image: hands, markers, frames, joint angles, points and overlay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.ros import points, tf
from hand_pose_3d.ros.conversions import rgb_to_image
from hand_pose_3d.ros.markers import HandMarkers
from hand_pose_3d.ros.messages import check_finite, hand_message, joint_state, stamp_seconds
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.ros.slots import HandSlots


class Outputs:
    """The node's lifecycle publishers. `publish` may be called from another thread than the executor's."""

    def __init__(self, node: Any) -> None:
        from rclpy.qos import QoSProfile
        from rclpy.qos_overriding_options import QoSOverridingOptions
        from sensor_msgs.msg import Image, JointState, PointCloud2
        from visualization_msgs.msg import MarkerArray

        from hand_pose_3d.msg import HandPose3D, HandPose3DArray

        self._node = node

        self._publishers: dict[str, Any] = {}

        def publish(name: str, kind: Any, topic: str, depth: int = 10) -> None:
            options = QoSOverridingOptions.with_default_policies()
            try:
                self._publishers[name] = node.create_lifecycle_publisher(
                    kind, topic, QoSProfile(depth=depth), qos_overriding_options=options
                )
            except Exception:
                self.close()  # those that were made before
                raise

        publish("hands", HandPose3DArray, "~/hands")
        publish("hand", HandPose3D, "~/hand")
        publish("markers", MarkerArray, "~/markers")
        publish("overlay", Image, "~/overlay", 1)
        publish("joint_states", JointState, "~/joint_states")
        self._create_cloud = points.cloud_builder()
        if self._create_cloud is not None:
            publish("points", PointCloud2, "~/points")
        self._transform_type = tf.message_type()
        if self._transform_type is None:
            node.get_logger().warning("tf2_msgs is not installed: no frames are published")
        else:
            publish("tf", self._transform_type, "/tf", 100)
        self._markers, self._slots, self._frames = HandMarkers(), HandSlots(), HandSlots()
        self._tf_stamp: float | None = None
        self._framed_header: Any = None
        self._warned = False
        self.frameless = False
        """Whether the last image had no frame_id, so that neither frames nor markers can be published."""

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def clear(self) -> None:
        """Delete the markers and forget the hands, because no more images are processed."""
        self.clear_markers()
        self.forget()

    def clear_markers(self) -> None:
        """Delete the markers."""
        if self._framed_header is not None:
            self._publishers["markers"].publish(self._markers.clear(self._framed_header))

    def forget(self) -> None:
        """Forget slots and frame names of hands, because they are no longer followed."""
        self._slots, self._frames, self._tf_stamp = HandSlots(), HandSlots(), None

    def publish(
        self, hands: Sequence[HandPose], header: Any, image_rgb: np.ndarray, parameters: NodeParameters
    ) -> list[InvalidInputError]:
        """Publish the hands of one image on topics with subscribers. Returns the errors of hands that were left out."""
        from hand_pose_3d.msg import HandPose3DArray

        kept: list[HandPose] = []
        messages: list[Any] = []
        faults: list[InvalidInputError] = []
        together, alone = self._wanted("hands"), self._wanted("hand")
        for hand in hands:
            try:
                if together or alone:
                    messages.append(hand_message(hand, header, image_rgb.shape))
                else:
                    check_finite(hand)
                kept.append(hand)
            except InvalidInputError as error:
                faults.append(error)
        self._look_at_frame(header)
        if together:
            self._publishers["hands"].publish(HandPose3DArray(header=header, hands=messages))
        if alone:
            for message in messages:
                self._publishers["hand"].publish(message)

        names = self._frames.frame_names(kept)
        if "tf" in self._publishers and parameters.publish_tf and not self.frameless and self._wanted("tf"):
            self._publish_frames(kept, [parameters.tf_prefix + name for name in names], header)
        slots = self._slots.numbers(kept)
        if parameters.publish_markers and self._framed_header is not None and self._wanted("markers"):
            shown, numbers = ([], []) if self.frameless else (kept, slots)
            array = self._markers.update(shown, numbers, self._framed_header, parameters.marker_lifetime)
            self._publishers["markers"].publish(array)
        if self._create_cloud is not None and not self.frameless and self._wanted("points"):
            self._publishers["points"].publish(points.cloud(kept, header, self._create_cloud))
        if kept and self._wanted("joint_states"):
            from hand_pose_3d.joints import joint_angles

            named = sorted(zip(names, kept, strict=True), key=lambda pair: pair[0])  # not by score, which changes
            angles = []
            for name, hand in named:
                try:
                    angles.append((name.removeprefix("hand_"), joint_angles(hand, clamp=True)))
                except InvalidInputError as error:
                    faults.append(error)
            self._publishers["joint_states"].publish(joint_state(angles, header))
        if self._wanted("overlay"):
            from hand_pose_3d.drawing import draw_hands

            self._publishers["overlay"].publish(rgb_to_image(draw_hands(image_rgb, kept), header))
        return faults

    def _look_at_frame(self, header: Any) -> None:
        frameless = not header.frame_id.strip("/ ")
        if frameless and not self._warned:
            self._warned = True
            self._node.get_logger().warning(
                "images have no frame_id: hands are published, but no frames on /tf and no markers"
            )
        self.frameless = frameless
        if not frameless:
            self._framed_header = header

    def _wanted(self, name: str) -> bool:
        return self._publishers[name].get_subscription_count() > 0

    def _publish_frames(self, hands: Sequence[HandPose], names: Sequence[str], header: Any) -> None:
        if stamp_seconds(header.stamp) is None:  # of stamp 0 tf2 would keep the first pose for ever
            header = type(header)(stamp=self._node.get_clock().now().to_msg(), frame_id=header.frame_id)
        stamp_s = stamp_seconds(header.stamp)
        if stamp_s is None or stamp_s == self._tf_stamp:
            return  # simulated time has not begun; tf2 warns of repeated transforms
        transforms = tf.transforms(hands, names, header)
        if transforms and self._transform_type is not None:
            self._tf_stamp = stamp_s
            self._publishers["tf"].publish(self._transform_type(transforms=transforms))
