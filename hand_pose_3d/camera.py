"""Pinhole cameras with lens distortion, and crops as similarity maps between pixel frames.

Pixel coordinates (u, v) put the centre of the top-left pixel at (0, 0), as OpenCV and ROS do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError

_MODELS = ("plumb_bob", "rational_polynomial", "equidistant", "")


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one camera in pixels, and its distortion as in sensor_msgs/CameraInfo.

    distortion: coefficients of `model`: up to 5 for plumb_bob, up to 14 for rational_polynomial,
    4 for equidistant (fisheye). width and height are 0 when unknown.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = 0
    height: int = 0
    distortion: tuple[float, ...] = ()
    model: str = "plumb_bob"

    def __post_init__(self) -> None:
        values = np.array([self.fx, self.fy, self.cx, self.cy, *self.distortion], dtype=float)
        if not np.all(np.isfinite(values)) or self.fx <= 0 or self.fy <= 0:
            raise InvalidInputError(
                f"camera intrinsics must be finite with positive focal lengths, not fx={self.fx} fy={self.fy} "
                f"cx={self.cx} cy={self.cy} distortion={self.distortion}"
            )
        if self.model not in _MODELS:
            raise InvalidInputError(f"distortion model {self.model!r} is not one of {', '.join(_MODELS[:3])}")

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, **fields: Any) -> Camera:
        """From a 3x3 intrinsic matrix K; further fields by name."""
        k = np.asarray(matrix, dtype=float).reshape(3, 3)
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), **fields)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Camera:
        """From the YAML file that ROS's camera_calibration writes. Raises InvalidInputError with the file's name."""
        import yaml

        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            if not isinstance(data, Mapping):
                raise TypeError("it holds no mapping")
            distortion = data.get("distortion_coefficients") or {}
            return cls.from_matrix(
                np.array(data["camera_matrix"]["data"], dtype=float),
                width=int(data.get("image_width", 0)),
                height=int(data.get("image_height", 0)),
                distortion=tuple(float(x) for x in distortion.get("data", ())),
                model=str(data.get("distortion_model", "plumb_bob")),
            )
        except OSError as error:
            raise InvalidInputError(f"cannot read camera file {path}: {error.strerror}") from error
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(
                f"{path} is not a camera calibration file (camera_matrix with 9 numbers in data): {reason}"
            ) from error

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsic matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """Pixels of points in the camera frame. points_m: (..., 3), z > 0; returns (..., 2)."""
        import cv2

        points = np.ascontiguousarray(points_m, dtype=float)
        flat, zero = points.reshape(-1, 1, 3), np.zeros(3)
        coefficients = np.array(self.distortion, dtype=float)
        if self.model == "equidistant":
            pixels, _ = cv2.fisheye.projectPoints(
                flat, zero, zero, self.matrix, np.resize(coefficients, 4) if len(coefficients) else np.zeros(4)
            )
        else:
            pixels, _ = cv2.projectPoints(flat, zero, zero, self.matrix, coefficients if len(coefficients) else None)
        return pixels.reshape(*points.shape[:-1], 2)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Undistorted viewing rays with z = 1. pixels: (..., 2); returns (..., 3)."""
        import cv2

        pixels = np.asarray(pixels, dtype=float)
        flat = np.ascontiguousarray(pixels.reshape(-1, 1, 2))
        coefficients = np.array(self.distortion, dtype=float)
        if self.model == "equidistant" and np.any(coefficients):
            flat = cv2.fisheye.undistortPoints(flat, self.matrix, np.resize(coefficients, 4))
        elif np.any(coefficients):
            flat = cv2.undistortPoints(flat, self.matrix, coefficients)
        else:
            flat = (flat - [self.cx, self.cy]) / [self.fx, self.fy]
        xy = flat.reshape(*pixels.shape[:-1], 2)
        return np.concatenate([xy, np.ones((*pixels.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True)
class Crop:
    """A square, possibly rotated, window of an image, resampled to `size` x `size` pixels.

    center: (u, v) in image pixels; side: length of the window's edge in image pixels; angle: radians by
    which the window is turned clockwise in the image; size: pixels along the crop's edge.
    """

    center: tuple[float, float]
    side: float
    size: int
    angle: float = 0.0

    @property
    def image_from_crop(self) -> np.ndarray:
        """(2, 3) affine map from crop pixels to image pixels."""
        step = self.side / self.size
        c, s = np.cos(self.angle) * step, np.sin(self.angle) * step
        linear = np.array([[c, -s], [s, c]])
        middle = np.full(2, (self.size - 1) / 2)
        return np.column_stack([linear, np.asarray(self.center, dtype=float) - linear @ middle])

    @property
    def crop_from_image(self) -> np.ndarray:
        """(2, 3) affine map from image pixels to crop pixels."""
        forward = self.image_from_crop
        inverse = np.linalg.inv(forward[:, :2])
        return np.column_stack([inverse, -inverse @ forward[:, 2]])

    def to_image(self, pixels: np.ndarray) -> np.ndarray:
        """Image pixels of crop pixels, (..., 2)."""
        m = self.image_from_crop
        return np.asarray(pixels) @ m[:, :2].T + m[:, 2]

    def to_crop(self, pixels: np.ndarray) -> np.ndarray:
        """Crop pixels of image pixels, (..., 2)."""
        m = self.crop_from_image
        return np.asarray(pixels) @ m[:, :2].T + m[:, 2]

    def extract(self, image: np.ndarray, border: int | tuple[int, ...] = 0) -> np.ndarray:
        """Resample the window from image (H, W) or (H, W, C); outside the image is `border`."""
        import cv2

        finer = min(math.ceil(self.side / (2 * self.size)), 8)
        if finer > 1:
            # Average several samples, at most two pixels apart, so that a large hand does not alias.
            samples = replace(self, size=finer * self.size).extract(image, border)
            return cv2.resize(samples, (self.size, self.size), interpolation=cv2.INTER_AREA)
        value = border if isinstance(border, tuple) else (border,) * 4
        return cv2.warpAffine(
            image,
            self.crop_from_image,
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=value,
        )
