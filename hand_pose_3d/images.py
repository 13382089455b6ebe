"""Pictures, videos, cameras and streams: finding the files that a user names, and reading them frame by frame.

Python opens the files and OpenCV decodes their content, or gets an ASCII name for them, so that any file name works.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np

from hand_pose_3d.encoded_images import (
    HEAD,
    MAX_SIDE,
    be_quiet,
    decode_image,
    decode_raw,
    image_format,
    is_motion_jpeg,
    is_video_container,
)
from hand_pose_3d.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".heic", ".avif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"})
"""Files of a folder with these suffixes are read in any case, so that damaged ones are reported."""

STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp", "srt")
"""URL schemes of cameras and streams."""

_DATA = Path(__file__).parent / "data"
CLIP, TELEOP_CLIP = _DATA / "clip.mp4", _DATA / "teleop_clip.mp4"
"""Built-in clips of rendered hands, for machines without a camera: hands that appear, move and leave, and hands that
drive a robot. Labels are in a JSON file beside each."""

_DAMAGED_IN_A_ROW = 300
"""Consecutive failed reads that end a video; set by hand, since reads past the end take no time."""

_FAILURES_BEFORE_REOPENING = 5  # consecutive failed reads of a camera, set by hand
_STREAM_TIMEOUT_S = 5.0
"""Time without an image after which a stream counts as silent; set by hand."""
_LOST_CAMERA_S = 30.0
"""Longest time for which a camera without images is reopened; set by hand."""


def read_image(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; EXIF orientation is applied, but to TIFF and AVIF.

    Grey, palette, alpha and 16-bit images are converted as :func:`decode_image` does. Raises InvalidInputError when the
    file is missing or is not an image.
    """
    import cv2

    path = Path(path)
    data = read_bytes(path)
    try:
        return cv2.cvtColor(decode_image(data), cv2.COLOR_BGR2RGB)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path} is {error}") from error


def read_pixels(path: str | Path, flags: int) -> np.ndarray:
    """An image file as OpenCV decodes it with these IMREAD flags. Raises InvalidInputError."""
    data = read_bytes(Path(path))
    image = decode_raw(data, flags)
    if image is None:
        raise InvalidInputError(f"{path} is not an image that OpenCV can decode ({len(data)} bytes)")
    return image


def as_rgb8(image: Any) -> np.ndarray:
    """An array as (H, W, 3) uint8 RGB, converted like files and messages.

    image: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16; alpha is dropped, 16 bits are taken to
    span the full range. Raises InvalidInputError for anything else.
    """
    image = np.asarray(image) if isinstance(image, np.ndarray) else image  # a subclass may index differently
    fits = isinstance(image, np.ndarray) and image.ndim in (2, 3) and image.dtype.kind == "u"
    if not fits or image.dtype.itemsize > 2 or image.shape[2:] not in ((), (1,), (3,), (4,)):
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidInputError(
            "an image must be a numpy array (height, width), (height, width, 3) RGB or (height, width, 4) RGBA of "
            f"uint8 or uint16, not {what}"
        )
    if image.dtype.itemsize == 2:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image if image.shape[2] == 3 else np.ascontiguousarray(image[..., :3])


def read_bytes(path: Path, count: int = -1) -> bytes:
    """The first `count` bytes of a file, or all. Raises InvalidInputError, also for devices, pipes and folders."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            raise InvalidInputError(f"{path} is a device, not a file: cameras are for hand_pose_3d live")
        if stat.S_ISFIFO(mode):
            raise InvalidInputError(f"{path} is a pipe: write its content to a file first")
        if stat.S_ISDIR(mode):
            raise InvalidInputError(f"{path} is a folder, not an image")
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except InvalidInputError:
        raise
    except ValueError as error:  # a name with a NUL
        raise InvalidInputError(f"cannot read {str(path)!r}: {error}") from error


def find_files(inputs: Iterable[str]) -> list[Path]:
    """Files named by paths, folders (their images and videos, by name) and glob patterns, each once, in order.

    A path that does not exist is kept, so that reading it raises the error. Raises InvalidInputError for a folder
    or a pattern with nothing in it, and for the URL of a stream.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = local_path(text)
        if path is None:
            raise InvalidInputError(
                f"{text} is a stream, not a file: follow it with hand_pose_3d live --camera, or download it first"
            )
        if os.path.isdir(path):
            try:
                matches = sorted(entry for entry in path.iterdir() if _belongs(entry))
            except OSError as error:
                raise InvalidInputError(f"cannot read the folder {path}: {error.strerror}") from error
            if not matches:
                raise InvalidInputError(
                    f"the folder {path} holds no image and no video; those in its folders are named by '{path}/**/*'"
                )
        elif not os.path.lexists(path) and glob.has_magic(text):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if not Path(name).is_dir())
            if not matches:
                raise InvalidInputError(f"no file matches {text}")
        else:
            matches = [path]
        found.update(dict.fromkeys(matches))
    return list(found)


def local_path(name: str) -> Path | None:
    """The path of a file name, which may be a file: URL or begin with ~; None for the URL of a stream.

    Raises InvalidInputError for a URL of another scheme and for an empty name.
    """
    if not name:
        raise InvalidInputError("the name of an input is empty")
    found = re.match("([a-z][a-z0-9+.-]*)://", name, re.IGNORECASE)
    if found is None or os.path.lexists(name):
        return Path(os.path.expanduser(name))
    scheme = found[1].lower()
    if scheme == "file":
        return Path(os.fsdecode(unquote_to_bytes(os.fsencode(urlsplit(name).path))))
    if scheme in STREAMS:
        return None
    raise InvalidInputError(f"{name} is neither a file nor a stream: URLs may begin with file, {', '.join(STREAMS)}")


def _belongs(path: Path) -> bool:
    """Whether a folder's file is an image or a video, by its content or by its suffix."""
    try:
        if path.name.startswith(".") or not path.is_file():
            return False
        head = read_bytes(path, HEAD)
    except (OSError, InvalidInputError):
        head = b""
    named = path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return named or bool(image_format(head)) or is_video_container(head)


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its content.

    Raises InvalidInputError if it cannot be read or is neither a known picture nor a video.
    """
    path = Path(path)
    head = read_bytes(path, HEAD)
    if image_format(head):
        return image_format(head) == "JPEG" and is_motion_jpeg(read_bytes(path))
    if is_video_container(head):
        return True
    try:
        Video(path).close()
    except InvalidInputError as error:
        size = path.stat().st_size
        raise InvalidInputError(
            f"{path} is not an image and not a video that OpenCV can decode ({size} bytes)"
        ) from error
    return True


class _Frames(Iterator[np.ndarray]):
    """Iterates over what a capture gives, starting with the frame that was read to check it."""

    _capture: Any
    _first: np.ndarray | None

    def close(self) -> None:
        """Close the file or camera."""
        self._capture.release()

    def _rate(self) -> float:
        """Frames a second as stated, 0 if that says nothing."""
        import cv2

        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return float(rate) if np.isfinite(rate) and 0 < rate <= 1000 else 0.0

    def _decoded(self) -> np.ndarray | None:
        """The next frame, BGR; None where it cannot be read."""
        import cv2

        try:
            ok, frame = self._capture.read()
        except cv2.error:
            return None
        return frame if ok else None


class Video(_Frames):
    """Frames of a video file, one after another, as (H, W, 3) uint8 RGB.

    fps: frames a second, 30 where the file does not say; count: 0 when unknown; time_s: the container's time of the
    last frame; index: its number in the file; damaged: numbers of the frames that could not be decoded so far. Raises
    InvalidInputError when the file is missing or OpenCV cannot read a frame of it.
    """

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = Path(path)
        self.damaged: list[int] = []
        self.index, self.time_s = -1, 0.0
        self._capture = _open_video(self.path)
        width, height = (self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self._first = self._next() if max(width, height) <= MAX_SIDE else None
        if self._first is None:
            self.close()
            raise InvalidInputError(f"{self.path} is not a video that OpenCV can decode")
        self.fps = self._rate() or 30.0
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __next__(self) -> np.ndarray:
        import cv2

        frame, self._first = (self._next() if self._first is None else self._first), None
        if frame is None:
            self.close()
            raise StopIteration
        at = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if self.index < 0:
            self.time_s = at if np.isfinite(at) else 0.0
        else:
            # Without valid times in the container, frames are assumed to be evenly spaced.
            self.time_s = at if np.isfinite(at) and at > self.time_s else self.time_s + 1 / self.fps
        self.index = self._read_count - 1
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    _read_count = 0

    def _next(self) -> np.ndarray | None:
        """The next frame that can be decoded, BGR; None at the end."""
        failed: list[int] = []
        while len(failed) < _DAMAGED_IN_A_ROW:
            frame = self._decoded()
            self._read_count += 1
            if frame is not None:
                self.damaged += failed
                return frame
            failed.append(self._read_count - 1)
        return None


class _Newest:
    """A capture of a live stream that gives its newest frame: one that is read too slowly gives ever older ones."""

    def __init__(self, capture: Any) -> None:
        self._capture, self._changed, self._closed = capture, threading.Condition(), False
        self._frame: tuple[bool, Any] | None = None
        self._thread = threading.Thread(target=self._keep_reading, name="stream", daemon=True)
        self._thread.start()

    def _keep_reading(self) -> None:
        import cv2

        while not self._closed:
            try:
                frame = self._capture.read()
            except cv2.error:
                frame = False, None
            with self._changed:
                self._frame = frame
                self._changed.notify()
            if not frame[0]:
                time.sleep(0.01)
        self._capture.release()

    def read(self) -> tuple[bool, Any]:
        """As cv2.VideoCapture.read; waits for a frame that was not given yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None, _STREAM_TIMEOUT_S)
            frame, self._frame = self._frame, None
        return frame or (False, None)

    def get(self, what: int) -> float:
        """As cv2.VideoCapture.get."""
        return self._capture.get(what)

    def release(self) -> None:
        """Close the stream, once a read that waits for the network has ended."""
        self._closed = True
        self._thread.join(0.5)


def _open_live(name: str, size: tuple[int, int]) -> Any:
    """An open capture; of a stream that is no recording only the newest frames."""
    import cv2

    capture = open_camera(name, size)
    return _Newest(capture) if "://" in name and not capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0 else capture


class LiveCamera(_Frames):
    """Pictures of a camera or stream as (H, W, 3) uint8 RGB, as they come; of a stream always the newest.

    A failed read is repeated, and a camera without images is reopened, which `say` reports. Raises
    InvalidInputError when it cannot be opened, or has no image for half a minute.
    """

    time_s: float | None = None

    def __init__(
        self, name: str, size: tuple[int, int] = (640, 480), say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.name, self._size, self._say = name, size, say
        self._capture = _open_live(name, size)
        self._first = self._read()
        if self._first is None:
            self.close()
            raise InvalidInputError(f"camera {name} opens but gives no picture: another program may use it")

    @property
    def fps(self) -> float:
        """Frames a second according to the camera, 0 if unknown."""
        return self._rate()

    def __next__(self) -> np.ndarray:
        import cv2

        frame, self._first = (self._read() if self._first is None else self._first), None
        if frame is None:
            if "://" in self.name and not isinstance(self._capture, _Newest):  # a recording on a server has an end
                raise StopIteration
            frame = self._reopened()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _read(self) -> np.ndarray | None:
        for attempt in range(_FAILURES_BEFORE_REOPENING):
            if (frame := self._decoded()) is not None:
                return frame
            time.sleep(0.01 * attempt)
        return None

    def _reopened(self) -> np.ndarray:
        self._say(f"camera {self.name} gives no picture; opening it again")
        end, pause = time.monotonic() + _LOST_CAMERA_S, 0.1
        reason = "it opens but gives no picture"
        while time.monotonic() < end:
            self._capture.release()
            try:
                self._capture = _open_live(self.name, self._size)
            except InvalidInputError as error:
                reason = str(error)
            else:
                frame = self._read()
                if frame is not None:
                    self._say(f"camera {self.name} is back")
                    return frame
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        raise InvalidInputError(f"camera {self.name} is lost: {reason}")


def open_source(camera: str, size: tuple[int, int], say: Callable[[str], None]) -> LiveCamera | Video:
    """A camera or a stream by its number, device or URL, or a video file in its place. Raises InvalidInputError."""
    path = local_path(camera)
    if path is not None and not camera.isdigit() and path.is_file():
        return Video(path)
    return LiveCamera(camera, size, say)


def open_camera(camera: str, size: tuple[int, int]) -> Any:
    """An open cv2.VideoCapture of a number, a device or a stream.

    Raises InvalidInputError that says whether the device is missing, forbidden or busy, or the URL is not understood.
    """
    import cv2

    be_quiet()
    is_number = camera.isascii() and camera.isdigit()
    device = f"/dev/video{camera}" if is_number else camera
    if "://" in camera and local_path(camera) is None:
        if not camera.isascii() or not camera.isprintable():
            raise InvalidInputError(f"the URL {camera} has characters that must be written as %XX")
        # FFmpeg's own timeout of half a minute would delay Ctrl-C.
        timeout = [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1e3 * _STREAM_TIMEOUT_S)]
        capture = cv2.VideoCapture(camera, cv2.CAP_FFMPEG, timeout)
        if not capture.isOpened():
            capture = cv2.VideoCapture(camera)
    elif is_number or device.startswith("/dev/"):
        if sys.platform.startswith("linux"):
            _check_device(device)
            # Symbolic links such as /dev/v4l/by-id may have any name; their targets are /dev/videoN.
            device = os.path.realpath(device)
        number = int(camera) if is_number else None
        capture = cv2.VideoCapture(device if number is None or device != f"/dev/video{camera}" else number)
    else:
        capture = _open_video(Path(os.path.expanduser(camera)), "cannot open the camera {}: {}")
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if not capture.isOpened():
        stream, device = "there is no server, or it sends no video", "it is not a camera, or another program uses it"
        raise InvalidInputError(f"cannot open the camera {camera}: {stream if '://' in camera else device}")
    return capture


def _check_device(device: str) -> None:
    if not os.path.exists(device):
        others = sorted(str(path) for path in Path("/dev").glob("video*"))
        found = f"there is {', '.join(others)}" if others else "no camera is connected"
        raise InvalidInputError(f"there is no camera {device}; {found}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise InvalidInputError(
            f"no permission to open {device}: add yourself to the group video (sudo usermod -aG video $USER) "
            "and log in again"
        )


def _open_video(path: Path, refusal: str = "cannot read {}: {}") -> Any:
    """A cv2.VideoCapture of a file, open or not. Raises InvalidInputError if Python cannot open it."""
    import cv2

    be_quiet()
    try:
        with path.open("rb") as stream:
            name = f"/dev/fd/{stream.fileno()}"
            if not os.path.exists(name):
                name = os.path.abspath(path)
                if not name.isascii():
                    raise InvalidInputError(f"this system opens videos with ASCII names only: rename {path}")
            # Other backends of OpenCV would read the name as the pattern of an image sequence.
            for backend in (cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER, cv2.CAP_OPENCV_MJPEG):
                capture = cv2.VideoCapture(name, backend)
                if capture.isOpened():
                    break
            return capture
    except OSError as error:
        raise InvalidInputError(refusal.format(path, error.strerror)) from error
    except ValueError as error:
        raise InvalidInputError(refusal.format(repr(path), error)) from error
