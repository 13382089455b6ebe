"""A node that publishes a photograph, a video, a camera or the built-in clip as `image` and `camera_info`.

It replaces a camera driver where there is none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import HandPoseError, one_line
from hand_pose_3d.ros import start
from hand_pose_3d.ros.conversions import rgb_to_image
from hand_pose_3d.ros.parameters import declare_all
from hand_pose_3d.ros.pictures import Pictures, open_pictures
from hand_pose_3d.settings import check_settings, setting


@dataclass(frozen=True)
class SourceParameters:
    """Everything that can be set on the node, read once at its start."""

    input: str = setting("", "Photograph, video, /dev/videoN or number of a camera; empty for the built-in clip.")
    source: str = setting("auto", "What the input is.", choices=("auto", "camera", "video", "clip"))
    rate: float = setting(
        0.0,
        "Images a second; 0 takes the input's own rate, which a camera does not exceed.",
        unit="Hz",
        low=0.0,
        high=1000.0,
    )
    loop: bool = setting(True, "Start over at the end of a photograph, video or clip; else end.")
    duration: float = setting(0.0, "End after this time; 0 never.", unit="s", low=0.0, high=1e9)
    frame_id: str = setting("camera_optical_frame", "Frame of the images: z forward, x right, y down (REP 103).")
    camera_file: str = setting("", "Calibration of the camera, a YAML file as camera_calibration writes it.")
    width: int = setting(640, "Width requested of a camera.", unit="pixels", low=1, high=65535)
    height: int = setting(480, "Height requested of a camera.", unit="pixels", low=1, high=65535)
    longest_side: int = setting(
        1280,
        "Larger pictures of files are shrunk to it, as a camera would give them; 0 never.",
        unit="pixels",
        low=0,
        high=65535,
    )
    wait_for: int = setting(0, "Begin when `image` has this many subscribers,", low=0, high=1000)
    wait_for_info: int = setting(0, "and `camera_info` this many.", low=0, high=1000)

    def __post_init__(self) -> None:
        check_settings(self)


def camera_info(camera: Camera | None, shape: tuple[int, ...], header: Any) -> Any:
    """A sensor_msgs/CameraInfo for images of this shape; all zeros, which means uncalibrated, without a camera.

    Raises InvalidInputError for a camera of images of another shape.
    """
    from sensor_msgs.msg import CameraInfo

    height, width = shape[:2]
    message = CameraInfo(header=header, height=height, width=width)
    if camera is None:
        return message
    camera = camera.fitted_to(width, height)
    message.distortion_model = camera.model if camera.distortion else "plumb_bob"
    message.d = [float(x) for x in camera.distortion] or [0.0] * 5
    message.k = camera.matrix.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.column_stack([camera.matrix, np.zeros(3)]).ravel().tolist()
    return message


def _endless(pictures: Pictures, loop: bool, rate_hz: float, say: Callable[[str], None]) -> Iterator[Any]:
    """Pictures with the time in seconds at which each is due: the input's own, or by a rate in Hz unless that is 0."""
    begin_s, period_s, damaged = 0.0, 1.0 / (rate_hz or pictures.rate_hz), 0
    while True:
        frames, due_s = pictures.start(), begin_s
        for number, picture in enumerate(frames):
            own_s = None if rate_hz else getattr(frames, "time_s", None)
            due_s = begin_s + (number * period_s if own_s is None else own_s)
            yield picture, due_s
            if len(getattr(frames, "damaged", ())) > damaged:
                damaged = len(frames.damaged)  # type: ignore[attr-defined]
                say(f"{damaged} damaged frames were left out")
        if not loop or pictures.live:
            return
        begin_s = due_s + period_s


def publish(node: Any, pictures: Pictures, settings: SourceParameters, say: Callable[[str], None]) -> int:
    """Publish until the end of input or time. Returns how many images were published."""
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CameraInfo, Image

    # Reliable, which matches all subscribers; deep enough for short delays.
    images = node.create_publisher(Image, "image", QoSProfile(depth=5))
    infos = node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=5))
    while (
        images.get_subscription_count() < settings.wait_for or infos.get_subscription_count() < settings.wait_for_info
    ):
        rclpy.spin_once(node, timeout_sec=0.05)
    if settings.wait_for:
        time.sleep(0.5)  # discovery has to match both ends of a connection

    begin = start = next_s = time.monotonic()
    count, shown = 0, None
    for picture, due_s in _endless(pictures, settings.loop, settings.rate, say):
        while not pictures.live and (wait := start + due_s - time.monotonic()) > 0:
            rclpy.spin_once(node, timeout_sec=wait)
        if pictures.live:
            rclpy.spin_once(node, timeout_sec=0)
            now = time.monotonic()
            if settings.duration and now - begin >= settings.duration:
                break
            if settings.rate and now < next_s:
                continue
            if settings.rate:
                next_s = max(next_s + 1 / settings.rate, now)
        # A source that cannot keep up continues from now instead of catching up.
        start = max(start, time.monotonic() - due_s)
        if picture is not shown:  # a photograph comes again and again
            small, shown, camera = picture, picture, pictures.camera
            if not pictures.live and settings.longest_side < max(picture.shape) and settings.longest_side:
                camera = camera and camera.fitted_to(*picture.shape[1::-1])  # before its size is another
                small = shrink(picture, settings.longest_side)
        message = rgb_to_image(small, _header(node, settings.frame_id))
        infos.publish(camera_info(camera, small.shape, message.header))
        images.publish(message)
        count += 1
        if settings.duration and time.monotonic() - begin >= settings.duration:
            break
    time.sleep(0.3)  # until the last image is sent
    return count


def shrink(picture: np.ndarray, longest_side: int) -> np.ndarray:
    """A picture (H, W, 3) with so many pixels on its longer side."""
    import cv2

    height, width = picture.shape[:2]
    factor = longest_side / max(height, width)
    size = max(round(factor * width), 1), max(round(factor * height), 1)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _header(node: Any, frame_id: str) -> Any:
    from std_msgs.msg import Header

    return Header(stamp=node.get_clock().now().to_msg(), frame_id=frame_id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the image source. Returns the exit status: 1 with one sentence when the input cannot be read."""
    import rclpy

    try:
        with start.process(arguments):
            node = rclpy.create_node("image_source")

            def say(text: str) -> None:
                node.get_logger().warning(one_line(text))

            settings = declare_all(node, SourceParameters, fixed=True)
            pictures = open_pictures(
                start.file_name(settings.input),
                size=(settings.width, settings.height),
                camera_file=start.file_name(settings.camera_file),
                kind=settings.source,
                say=say,
            )
            count = publish(node, pictures, settings, say)
            node.get_logger().info(f"published {count} images")
    except HandPoseError as error:
        print(f"image_source: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
