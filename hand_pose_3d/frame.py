"""One image on its way through the estimator, with its camera, depth and time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError, check_stamp
from hand_pose_3d.images import as_rgb8
from hand_pose_3d.pixels import Image

_MAX_MEDIAN_DEPTH_M = 100.0
"""Metres; depth images with a larger median are refused as millimetres. Hands are found within a few metres."""


_LEAST_SIDE = 16
"""Pixels; no hand could be seen in smaller images."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The checked arguments of one call of the estimator.

    image: (H, W, 3) RGB, an array uint8 or where the networks run; camera: that of images of this size; depth_m: (H, W)
    metres, registered to the image; stamp_s: acquisition time, seconds. None: not known.
    """

    image: Image
    camera: Camera | None = None
    depth_m: np.ndarray | None = None
    stamp_s: float | None = None

    @classmethod
    def checked(
        cls, image: np.ndarray, camera: Camera | None, depth_m: np.ndarray | None, stamp_s: float | None
    ) -> Frame:
        """A frame from a user's arguments: other kinds of images are converted, a camera of another size is scaled.

        Raises InvalidInputError unless the image has at least 16 x 16 pixels, camera and depth fit it, and the stamp is
        a number.
        """
        image = as_rgb8(image)
        check_size(image)
        height, width = image.shape[:2]
        depth_m = _checked_depth(depth_m, (height, width))
        if camera is not None:
            if not isinstance(camera, Camera):
                raise InvalidInputError(f"camera must be a hand_pose_3d.Camera, not {type(camera).__name__}")
            camera = camera.fitted_to(width, height)
        return cls(image, camera, depth_m, None if stamp_s is None else check_stamp(stamp_s))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]

    def mirrored(self) -> Frame:
        """The frame with image (still an array), depth and the camera of their pixels mirrored left to right."""
        assert isinstance(self.image, np.ndarray)
        depth_m = None if self.depth_m is None else self.depth_m[:, ::-1]
        camera = None if self.camera is None else self.camera.mirrored()
        return replace(self, image=np.ascontiguousarray(self.image[:, ::-1]), depth_m=depth_m, camera=camera)


def check_size(image: np.ndarray) -> None:
    """Raise InvalidInputError for an image (H, W, ...) in which no hand could be seen."""
    height, width = image.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise InvalidInputError(
            f"an image must be at least {_LEAST_SIDE} x {_LEAST_SIDE} pixels, not {width} x {height}"
        )


def _checked_depth(depth_m: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray | None:
    """Checked depth (H, W) of an image of this shape (H, W), masked values as NaN; None stays None.

    Raises InvalidInputError for anything else.
    """
    if depth_m is None:
        return None
    wanted = "depth must be a numpy array of floating-point metres"
    if not isinstance(depth_m, np.ndarray):
        raise InvalidInputError(f"{wanted}, not a {type(depth_m).__name__}")
    if depth_m.dtype.kind != "f":
        raise InvalidInputError(f"{wanted}, not {depth_m.dtype} numbers: divide millimetres by 1000.0")
    if isinstance(depth_m, np.ma.MaskedArray):
        depth_m = depth_m.filled(np.nan)
    if depth_m.shape != shape:
        raise InvalidInputError(
            f"the depth image is {depth_m.shape}, the colour image {shape}; they must be registered"
        )
    some = depth_m[::8, ::8]
    some = some[np.isfinite(some) & (some > 0)]
    if some.size and np.median(some) > _MAX_MEDIAN_DEPTH_M:
        raise InvalidInputError(
            f"depth must be metres, but half of it is above {_MAX_MEDIAN_DEPTH_M:.0f}: divide millimetres by 1000.0"
        )
    return depth_m
