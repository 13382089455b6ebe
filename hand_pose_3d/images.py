"""Reading pictures from files, with one sentence about what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_pose_3d.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


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
