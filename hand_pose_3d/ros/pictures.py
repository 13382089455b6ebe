"""Where the image source takes its pictures from: a photograph, a video, a camera or the built-in clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import Video, is_video, read_image

CLIP = Path(__file__).resolve().parents[1] / "data" / "clip.mp4"
"""Rendered hands, so that there is something to see on a machine without a camera; truth is in clip.json beside it."""

PHOTO_RATE_HZ = 30.0


@dataclass(frozen=True)
class Pictures:
    """Pictures as (H, W, 3) uint8 RGB. `start` begins anew; a live source gives them at its own pace."""

    kind: str
    start: Callable[[], Iterator[np.ndarray]]
    rate_hz: float
    camera: Camera | None = None

    @property
    def live(self) -> bool:
        """Whether the pictures come at their own pace."""
        return self.kind == "camera"


def open_pictures(
    name: str, *, size: tuple[int, int] = (640, 480), camera_file: str = "", kind: str = "auto"
) -> Pictures:
    """Pictures of an input: '' or 'clip' for the built-in clip, a file, or a camera as /dev/videoN or number.

    size: width and height that a camera is asked for. camera_file: YAML of camera_calibration. kind: 'camera', 'video'
    or 'clip' insist on that; 'auto' takes what the name says. Raises InvalidInputError with one sentence when it
    cannot be opened or its first picture cannot be read.
    """
    camera = Camera.from_yaml(camera_file) if camera_file else None
    if kind == "clip" or (kind == "auto" and name in ("", "clip")):
        return _open_clip(camera)
    if kind == "camera" or (kind == "auto" and (name.startswith("/dev/") or name.isdigit())):
        return _open_camera(name or "0", size, camera)
    if not name:
        raise InvalidInputError("source video needs the name of a file")
    path = Path(name).expanduser()
    if path.exists() and is_video(path):
        return Pictures("video", lambda: iter(Video(path)), Video(path).fps, camera)
    image = read_image(path)
    return Pictures("photo", lambda: iter([image]), PHOTO_RATE_HZ, camera)


def _open_clip(camera: Camera | None) -> Pictures:
    truth = CLIP.with_suffix(".json")
    if not CLIP.is_file() or not truth.is_file():
        raise InvalidInputError(f"the built-in clip {CLIP} is missing: install the package again, or name a file")
    fields = json.loads(truth.read_text(encoding="utf-8"))["camera"]
    own = Camera(**{**fields, "distortion": tuple(fields.get("distortion", ()))})
    return Pictures("clip", lambda: iter(Video(CLIP)), Video(CLIP).fps, camera or own)


def _open_camera(name: str, size: tuple[int, int], camera: Camera | None) -> Pictures:
    import cv2

    from hand_pose_3d.images import open_camera

    capture = open_camera(name, size)
    ok, _ = capture.read()
    if not ok:
        capture.release()
        raise InvalidInputError(f"camera {name} opens but gives no picture: another program may use it")
    rate = capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[np.ndarray]:
        while True:
            ok, image = capture.read()
            if not ok:
                return
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    return Pictures("camera", frames, rate if 0 < rate < 1000 else PHOTO_RATE_HZ, camera)
