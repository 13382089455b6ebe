"""Inputs of the image source: a photograph, a video, a camera or the built-in clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import CLIP, TELEOP_CLIP, LiveCamera, Video, is_video, local_path, read_image

CLIPS = {"": CLIP, "clip": CLIP, "teleop_clip": TELEOP_CLIP}
"""By the name of the input."""

PHOTO_RATE_HZ = 30.0  # of a photograph that is published repeatedly


@dataclass(frozen=True)
class Pictures:
    """Pictures as (H, W, 3) uint8 RGB. `start` begins from the start; a live source has its own pace.

    What `start` returns has `time_s`, the time of the last picture since the beginning, if the input states any.
    """

    kind: str
    start: Callable[[], Iterable[np.ndarray]]
    rate_hz: float
    camera: Camera | None = None
    close: Callable[[], None] = lambda: None

    @property
    def live(self) -> bool:
        """Whether the pictures come at their own pace."""
        return self.kind == "camera"


def open_pictures(
    name: str,
    *,
    size: tuple[int, int] = (640, 480),
    camera_file: str = "",
    kind: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Pictures:
    """Pictures of an input: built in ('', 'clip', 'teleop_clip'), a file, or a camera as /dev/videoN, number or URL.

    size: width and height requested of a camera. camera_file: YAML of camera_calibration. kind: 'camera', 'video'
    or 'clip' require that kind; 'auto' goes by the name. say: called with messages about a camera that is lost or back.
    Raises InvalidInputError with one sentence when it cannot be opened or its first picture cannot be read.
    """
    camera = Camera.from_yaml(local_path(camera_file) or camera_file) if camera_file else None
    if kind == "clip" or (kind == "auto" and name in CLIPS):
        return _open_clip(CLIPS.get(name, CLIP), camera)
    if kind == "camera" or (kind == "auto" and (name.startswith("/dev/") or name.isdigit())):
        return _open_camera(name or "0", size, camera, say)
    if not name:
        raise InvalidInputError("source video needs the name of a file")
    path = local_path(name)
    if path is None:
        return _open_camera(name, size, camera, say)
    if is_video(path):
        return _video("video", path, camera)
    image = read_image(path)
    return Pictures("photo", lambda: [image], PHOTO_RATE_HZ, camera)


def _open_clip(clip: Path, camera: Camera | None) -> Pictures:
    truth = clip.with_suffix(".json")
    if not clip.is_file() or not truth.is_file():
        raise InvalidInputError(f"the built-in clip {clip} is missing: install the package again, or name a file")
    own = Camera(**json.loads(truth.read_text(encoding="utf-8"))["camera"])
    return _video("clip", clip, camera or own)


def _video(kind: str, path: Path, camera: Camera | None) -> Pictures:
    video = Video(path)
    video.close()
    return Pictures(kind, lambda: Video(path), video.fps, camera)


def _open_camera(name: str, size: tuple[int, int], camera: Camera | None, say: Callable[[str], None]) -> Pictures:
    live = LiveCamera(name, size, say)
    return Pictures("camera", lambda: live, live.fps or PHOTO_RATE_HZ, camera, live.close)
