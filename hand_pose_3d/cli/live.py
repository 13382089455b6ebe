"""hand_pose_3d live: follow the hands in front of a webcam, without ROS."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hand_pose_3d.cli.options import NamedPath, estimator_options, say_without_camera
from hand_pose_3d.errors import one_line

if TYPE_CHECKING:
    import numpy as np

    from hand_pose_3d.camera import Camera
    from hand_pose_3d.estimator import HandPoseEstimator
    from hand_pose_3d.hands import HandPose
    from hand_pose_3d.images import LiveCamera, Video

Show = Callable[["np.ndarray", "list[HandPose]", float, str], bool]
"""Shows a frame with its hands at a time in seconds, with a line of text; False if the user quits."""


@click.command("live")
@click.option("--camera", default="0", help="Number, device or stream of the camera, or a video.")
@click.option("--viewer", type=click.Choice(["window", "rerun"]), default="window", help="Where to show the hands.")
@click.option("--calibration", type=NamedPath(path_type=Path), help="Calibration (ROS camera_info YAML), for metres.")
@click.option("--size", default="640x480", help="Width and height requested of the camera.")
@click.option("--frames", type=click.IntRange(1), help="Stop after this many frames.")
@click.option("--save", type=NamedPath(dir_okay=False), help="With rerun: write an .rrd file, open no window.")
@estimator_options
def command(
    camera: str,
    viewer: str,
    calibration: Path | None,
    size: str,
    frames: int | None,
    save: str | None,
    **options: Any,
) -> None:
    """Follow the hands in front of a webcam, without ROS. q or Esc ends."""
    from hand_pose_3d.camera import Camera
    from hand_pose_3d.errors import InvalidInputError
    from hand_pose_3d.estimator import HandPoseEstimator
    from hand_pose_3d.images import open_source
    from hand_pose_3d.outputs import check_target
    from hand_pose_3d.rerun_view import RECORDING
    from hand_pose_3d.settings import parse_size

    if save and viewer != "rerun":
        raise InvalidInputError("--save writes a rerun recording: add --viewer rerun")
    if save:
        save = str(check_target(save, RECORDING))
    intrinsics = Camera.from_yaml(calibration) if calibration else None
    say_without_camera(intrinsics)
    source = open_source(camera, parse_size(size), lambda text: click.echo(one_line(text), err=True))
    try:
        estimator = HandPoseEstimator(tracking=True, **options)  # before an earlier recording is replaced
        show = _rerun_viewer(save) if viewer == "rerun" else _window_viewer()
        _follow(source, estimator, intrinsics, show, frames)
    finally:
        source.close()


def _follow(
    source: LiveCamera | Video, estimator: HandPoseEstimator, intrinsics: Camera | None, show: Show, frames: int | None
) -> None:
    from hand_pose_3d.images import Video

    count, rate, last, begin = 0, 0.0, 0.0, time.monotonic()
    for image in islice(source, frames):
        now = stamp_s = time.monotonic()
        if isinstance(source, Video):  # has times of its own, and would be over too soon
            stamp_s = source.time_s
            wait_s = max(0.0, begin + stamp_s - now)
            begin -= max(0.0, wait_s - 1.0)  # not through a gap
            time.sleep(min(wait_s, 1.0))
        hands = estimator(image, camera=intrinsics, stamp_s=stamp_s)
        if count:  # a rate needs two
            rate += (0.1 if count > 1 else 1.0) * (1 / max(now - last, 1e-3) - rate)
        last, count = now, count + 1
        if not show(image, hands, stamp_s, f"{rate:.0f} Hz  {estimator.model} on {estimator.device}"):
            break
    click.echo(f"{count} frames, {rate:.1f} a second at the end" if count > 1 else f"{count} frame")


def _window_viewer() -> Show:
    import cv2

    from hand_pose_3d.drawing import draw_hands
    from hand_pose_3d.errors import InvalidInputError

    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InvalidInputError("there is no display for a window: use --viewer rerun --save FILE.rrd, or predict")
    try:
        cv2.namedWindow("hand_pose_3d", cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise InvalidInputError(
            "this OpenCV opens no windows (it is opencv-python-headless): "
            "pip install opencv-python, or use --viewer rerun"
        ) from error

    def show(image: np.ndarray, hands: list[HandPose], time_s: float, text: str) -> bool:
        drawn = draw_hands(image, hands)
        origin = (10, drawn.shape[0] - 12)
        cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        cv2.imshow("hand_pose_3d", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        closed = cv2.getWindowProperty("hand_pose_3d", cv2.WND_PROP_VISIBLE) < 1
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27) and not closed

    return show


def _rerun_viewer(save: str | None) -> Show:
    from hand_pose_3d.rerun_view import RerunView

    view = RerunView(save)

    def show(image: np.ndarray, hands: list[HandPose], time_s: float, text: str) -> bool:
        view.image(image, time_s, text)
        view.hands(hands, time_s)
        return True

    return show
