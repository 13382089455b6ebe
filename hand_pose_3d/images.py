"""Reading pictures and videos from files, with one sentence about what is wrong with a bad one."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


def read_image(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; EXIF orientation is applied and an alpha channel dropped.

    Raises InvalidInputError when the file is missing, is not an image, has one channel or 16 bits.
    """
    import cv2

    path = Path(path)
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise InvalidInputError(f"{path} is a folder, not an image") from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    try:
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise InvalidInputError(f"{path} is not an image that OpenCV can decode ({len(data)} bytes)")
    if image.dtype != np.uint8:
        bits = 8 * image.dtype.itemsize
        raise InvalidInputError(f"{path} has {bits} bits per channel: an 8-bit colour image is needed")
    if image.ndim == 2 or image.shape[2] != 3:
        raise InvalidInputError(f"{path} has one channel: a colour image with three is needed")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def is_video(path: str | Path) -> bool:
    """Whether a file's name ends like a video's."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """Frames of a video file. fps: frames a second, 30 where the file does not say; count: 0 when unknown.

    Raises InvalidInputError when the file is missing or OpenCV cannot read a frame of it.
    """

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = Path(path)
        try:
            with self.path.open("rb"):
                pass
        except OSError as error:
            raise InvalidInputError(f"cannot read {self.path}: {error.strerror}") from error
        self._capture = cv2.VideoCapture(str(self.path))
        self._first: np.ndarray | None = None
        if self._capture.isOpened():
            self._first = self._capture.read()[1]
        if self._first is None:
            raise InvalidInputError(f"{self.path} is not a video that OpenCV can decode")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else 30.0
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each frame once, (H, W, 3) uint8 RGB."""
        import cv2

        frame, self._first = self._first, None
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            frame = self._capture.read()[1]
        self._capture.release()


def find_files(inputs: Iterable[str]) -> list[Path]:
    """Files named by paths, folders (their images and videos, by name) and glob patterns, each once, in order.

    A path that does not exist is kept, so that reading it says what is wrong. Raises InvalidInputError for a folder
    or a pattern with nothing in it.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
            if not matches:
                raise InvalidInputError(f"the folder {path} holds no image and no video")
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(name) for name in glob.glob(text, recursive=True) if not Path(name).is_dir())
            if not matches:
                raise InvalidInputError(f"no file matches {text}")
        else:
            matches = [path]
        found.update(dict.fromkeys(matches))
    return list(found)


def open_camera(camera: str, size: tuple[int, int]) -> Any:
    """An open cv2.VideoCapture of a number, a device or a stream.

    Raises InvalidInputError that says whether the device is missing, forbidden or busy.
    """
    import cv2

    device = f"/dev/video{camera}" if camera.isdigit() else camera
    if sys.platform.startswith("linux") and device.startswith("/dev/"):
        if not os.path.exists(device):
            others = sorted(str(path) for path in Path("/dev").glob("video*"))
            found = f"there is {', '.join(others)}" if others else "no camera is connected"
            raise InvalidInputError(f"there is no camera {device}; {found}")
        if not os.access(device, os.R_OK | os.W_OK):
            raise InvalidInputError(
                f"no permission to open {device}: add yourself to the group video (sudo usermod -aG video $USER) "
                "and log in again"
            )
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    capture = cv2.VideoCapture(int(camera)) if camera.isdigit() else cv2.VideoCapture(camera)
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if not capture.isOpened():
        raise InvalidInputError(f"cannot open the camera {camera}: it is not a camera, or another program uses it")
    return capture
