"""Image files: finding those that a user names, and reading them.

Python opens the files and OpenCV decodes their content, so that any file name works.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np

from hand_pose_3d.encoded_images import HEAD, decode_image, decode_raw, image_format, is_video_container
from hand_pose_3d.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".heic", ".avif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"})
"""Files of a folder with these suffixes are read in any case, so that damaged ones are reported."""

STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp", "srt")
"""URL schemes of cameras and streams."""


def read_image(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; EXIF orientation is applied.

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
    except ValueError as error:
        raise InvalidInputError(f"cannot read {path!r}: {error}") from error


def find_files(inputs: Iterable[str]) -> list[Path]:
    """Files named by paths, folders (their images and videos, by name) and glob patterns, each once, in order.

    A path that does not exist is kept, so that reading it raises the error. Raises InvalidInputError for a folder
    or a pattern with nothing in it, and for the URL of a stream.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = local_path(text)
        if path is None:
            raise InvalidInputError(f"{text} is a stream, not a file: follow it with hand_pose_3d live --camera")
        if os.path.isdir(path):
            try:
                matches = sorted(entry for entry in path.iterdir() if _belongs(entry))
            except OSError as error:
                raise InvalidInputError(f"cannot read the folder {path}: {error.strerror}") from error
            if not matches:
                raise InvalidInputError(f"the folder {path} holds no image and no video")
        elif not os.path.lexists(path) and glob.has_magic(text):
            matches = sorted(Path(name) for name in glob.glob(text, recursive=True) if not Path(name).is_dir())
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
