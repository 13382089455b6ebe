"""Resizing and cropping an image where the networks run: an array on the CPU, or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from hand_pose_3d.camera import Crop

if TYPE_CHECKING:
    from hand_pose_3d.device import DeviceImage

Image = Union[np.ndarray, "DeviceImage"]
"""(H, W, 3) RGB, 0..255. Parts of it are uint8 arrays, or float32 tensors that are not rounded."""


def crops_of(image: Image, windows: Sequence[Crop], border: int = 0) -> Any:
    """Windows of one size, (N, S, S, 3); outside the image they are `border`, a grey level 0..255."""
    if isinstance(image, np.ndarray):
        return np.stack([window.extract(image, border) for window in windows])
    return image.crops(windows, border)


def canvas_of(
    image: Image,
    origin: tuple[int, int],
    size: tuple[int, int],
    inner: tuple[int, int],
    padded: tuple[int, int],
    padding: int,
    finer: int = 1,
) -> Any:
    """A part of an image, resized to `inner` in the top left corner of a grey canvas, (1, H, W, 3).

    Sizes are (width, height). finer: samples per axis averaged into a pixel; averaging all would take too long.
    """
    if not isinstance(image, np.ndarray):
        return image.canvas(origin, size, inner, finer, padded, padding)
    import cv2

    (x, y), (width, height) = origin, size
    part = image[y : y + height, x : x + width]
    if finer > 1:
        part = cv2.resize(part, (finer * inner[0], finer * inner[1]), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((1, padded[1], padded[0], 3), padding, np.uint8)
    interpolation = cv2.INTER_AREA if inner[0] < width else cv2.INTER_LINEAR
    canvas[0, : inner[1], : inner[0]] = cv2.resize(part, inner, interpolation=interpolation)
    return canvas


def mirrored(crops: Any) -> Any:
    """Crops (N, S, S, 3) mirrored left to right."""
    return np.ascontiguousarray(crops[:, :, ::-1]) if isinstance(crops, np.ndarray) else crops.flip(2)
