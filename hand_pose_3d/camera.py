"""Pinhole cameras with lens distortion, and crops as similarity maps between pixel frames.

Pixel coordinates (u, v) put the centre of the top-left pixel at (0, 0), as OpenCV and ROS do.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.conventions import rescale_pixels
from hand_pose_3d.errors import LARGEST, InvalidInputError

MODELS = ("plumb_bob", "rational_polynomial", "equidistant", "none", "")
"""Names of distortion models in ROS; other names of the same models are accepted."""

_POLYNOMIAL = r"plumb.?bob|(rational.?)?(polynomial|thin.?prism.*)|(modified.?)?brown.?conrady|rad(ial)?.?tan(gential)?"
_FISHEYE = r"equidistant|(opencv.?)?fisheye|kannala.?brandt.?4?"

COEFFICIENTS = (4, 5, 8, 12, 14)
"""Allowed numbers of coefficients of OpenCV's polynomial; equidistant (fisheye) has 4."""

_SHORTEST_FOCAL = 0.02
"""Smallest focal length as a share of the longer side: half that of a 170 degree lens, to reject millimetres."""

_LARGEST_FILE = 1 << 20
"""Bytes; larger files are not read as calibrations."""


def part_of_sensor(
    matrix: np.ndarray, size: Sequence[Any], roi: Sequence[int], binning: Sequence[int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Intrinsic matrix (3, 3) and size (width, height) of images of a part of the sensor, as image_geometry has them.

    size: (width, height) of the calibration; roi: x, y, width, height of the part, before binning, zeros for all;
    binning: (x, y), 0 as 1.
    """
    bin_x, bin_y = (max(1, each) for each in binning)
    x, y, width, height = roi
    part = matrix.astype(float)
    part[:2] = (part[:2] - [[0, 0, x], [0, 0, y]]) / [[bin_x], [bin_y]]
    return part, (int(width or size[0] or 0) // bin_x, int(height or size[1] or 0) // bin_y)


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one camera in pixels, and its distortion as in sensor_msgs/CameraInfo.

    The one place that decides which calibrations are accepted, from a file, a message or a program.

    distortion: none, or 4, 5, 8, 12 or 14 coefficients of OpenCV's polynomial by any of its names, or 4 of equidistant
    (fisheye). width and height are both 0 when unknown. Raises InvalidInputError for anything else.
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
        try:
            numbers = [float(value) for value in (self.fx, self.fy, self.cx, self.cy)]
            size = [int(value or 0) for value in (self.width, self.height)]
            distortion = () if self.distortion is None else np.asarray(self.distortion, dtype=float).ravel().tolist()
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInputError(f"camera intrinsics must be numbers: {error}") from error
        # Written so that NaN is refused, too.
        if not np.all(np.abs([*numbers, *distortion]) <= LARGEST) or not min(numbers[:2]) >= 1 or min(size) < 0:
            raise InvalidInputError(
                f"camera intrinsics must be numbers up to {LARGEST:g} with focal lengths of a pixel or more, not "
                f"fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy} distortion={self.distortion} of "
                f"{self.width}x{self.height} pixels"
            )
        if bool(size[0]) != bool(size[1]):
            raise InvalidInputError(f"a camera has both width and height, or none of them, not {size[0]}x{size[1]}")
        if min(numbers[:2]) < _SHORTEST_FOCAL * max(size):
            raise InvalidInputError(
                f"a focal length of {min(numbers[:2]):g} is too short for images of {size[0]}x{size[1]} pixels: "
                "intrinsics are in pixels"
            )
        model = _ros_name("" if self.model is None else str(self.model), len(distortion))
        values = dict(zip(("fx", "fy", "cx", "cy"), numbers)) | {"width": size[0], "height": size[1]}
        for name, value in {**values, "distortion": _checked(model, tuple(distortion)), "model": model}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_matrix(cls, matrix: Any, **fields: Any) -> Camera:
        """From a 3x3 intrinsic matrix K, or its nine numbers row by row; further fields by name."""
        try:
            k = np.asarray(matrix, dtype=float).reshape(3, 3)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"a camera matrix has 3x3 numbers: {error}") from error
        straight = abs(k[0, 1]) <= 0.01 * abs(k[0, 0])
        # Written so that NaN is refused.
        if not (abs(k[2, 2] - 1.0) <= 1e-6 and np.all(np.abs([k[1, 0], k[2, 0], k[2, 1]]) <= 1e-9) and straight):
            raise InvalidInputError(f"the camera matrix is not one of a pinhole camera: {k.ravel().tolist()}")
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), **fields)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Camera:
        """From the YAML file that ROS's camera_calibration writes. Raises InvalidInputError with the file's name.

        OpenCV's YAML and a CameraInfo of `ros2 topic echo` are accepted, too. Matrix and coefficients may be plain
        lists; a path may begin with ~.
        """
        import yaml

        path = os.path.expanduser(path)
        try:
            with open(path, "rb") as stream:
                text = stream.read(_LARGEST_FILE + 1)
            if len(text) > _LARGEST_FILE:
                raise TypeError(f"it has more than {_LARGEST_FILE} bytes")
            # OpenCV writes %YAML:1.0, which no parser accepts, and gives matrices a type of their own.
            loader: Any = type("Loader", (yaml.SafeLoader,), {})
            loader.add_constructor(
                "tag:yaml.org,2002:opencv-matrix", lambda reader, node: reader.construct_mapping(node, deep=True)
            )
            data = next(yaml.load_all(re.sub(rb"\A%YAML.*", b"", text), loader), None)
            if not isinstance(data, Mapping):
                raise TypeError("it holds no mapping")
            data = {str(name).lower(): value for name, value in data.items()}
            matrix = data.get("camera_matrix", data.get("k"))
            if matrix is None:
                raise TypeError("it has no camera_matrix")
            roi = data.get("roi") or {}
            if not isinstance(roi, Mapping):
                raise TypeError("its roi is no mapping")
            matrix, (width, height) = part_of_sensor(
                np.array(_numbers(matrix), dtype=float).reshape(3, 3),
                (data.get("image_width", data.get("width")), data.get("image_height", data.get("height"))),
                [int(roi.get(name) or 0) for name in ("x_offset", "y_offset", "width", "height")],
                [int(data.get(name) or 0) for name in ("binning_x", "binning_y")],
            )
            return cls.from_matrix(
                matrix,
                width=width,
                height=height,
                distortion=_numbers(data.get("distortion_coefficients", data.get("d"))),
                model=data.get("distortion_model"),
            )
        except OSError as error:
            raise InvalidInputError(f"cannot read camera file {path}: {error.strerror}") from error
        except InvalidInputError as error:
            raise InvalidInputError(f"camera file {path}: {error}") from error
        except (yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInputError(
                f"{path} is not a camera calibration file (camera_matrix with 9 numbers in data): {reason}"
            ) from error

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsic matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def fitted_to(self, width: int, height: int) -> Camera:
        """This camera for images of a size in pixels: scaled if that has the same shape as the calibration's.

        A camera of unknown size is returned unchanged if its principal point lies in the image. Raises
        InvalidInputError for images of another shape.
        """
        if (self.width, self.height) == (width, height):
            return self
        if not self.width:
            if not (0 <= self.cx < width and 0 <= self.cy < height):
                raise InvalidInputError(
                    f"the camera's principal point ({self.cx:g}, {self.cy:g}) lies outside of images of "
                    f"{width}x{height}: state the width and height that it was calibrated for"
                )
            return replace(self, width=width, height=height)
        # Sides are whole pixels, so the same shape at another size may be one pixel off.
        x, y = width / self.width, height / self.height
        if min(abs(self.width * y - width), abs(self.height * x - height)) > 1:
            raise InvalidInputError(
                f"the camera was calibrated for {self.width}x{self.height} pixels, whose shape is not that of images "
                f"of {width}x{height}: calibrate it for these"
            )
        return self.scaled(x, y)

    def scaled(self, x: float, y: float) -> Camera:
        """The camera of images that were resized by these factors."""
        cx, cy = rescale_pixels(self.cx, x), rescale_pixels(self.cy, y)
        width, height = round(self.width * x), round(self.height * y)
        return replace(self, fx=self.fx * x, fy=self.fy * y, cx=cx, cy=cy, width=width, height=height)

    def mirrored(self) -> Camera:
        """The camera of images that were mirrored left to right; its width is known."""
        k = list(self.distortion)
        for odd in () if self.model == "equidistant" else (3, 8, 9, 13):  # p2, s1, s2 and tau_y
            if odd < len(k):
                k[odd] = -k[odd]
        return replace(self, cx=self.width - 1 - self.cx, distortion=tuple(k))

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """Pixels of points in the camera frame.

        Args:
            points_m: (..., 3) metres, x right, y down, z forward and positive.

        Returns:
            (..., 2) pixels, u right and v down; whole numbers are the centres of pixels.

        >>> camera = Camera(fx=500.0, fy=500.0, cx=319.5, cy=239.5, width=640, height=480)
        >>> camera.project(np.array([0.1, 0.0, 0.5])).tolist()
        [419.5, 239.5]
        """
        points = np.ascontiguousarray(points_m, dtype=float)
        return self._project(points.reshape(-1, 3))[0].reshape(*points.shape[:-1], 2)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Undistorted viewing rays: lenses are inverted by Newton's method on :meth:`project`.

        Args:
            pixels: (..., 2); one that no ray reaches gets the nearest ray found.

        Returns:
            (..., 3) with z = 1, camera axes.
        """
        pixels = np.asarray(pixels, dtype=float)
        flat = pixels.reshape(-1, 2)
        xy = (flat - [self.cx, self.cy]) / [self.fx, self.fy]
        if self.distortion:
            xy = self._undistorted(flat, xy)
        xy = xy.reshape(*pixels.shape[:-1], 2)
        return np.concatenate([xy, np.ones((*pixels.shape[:-1], 1))], axis=-1)

    def _project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) of points (N, 3), and their derivatives (N, 2, 2) by the points' x and y."""
        import cv2

        if not len(points):
            return np.zeros((0, 2)), np.zeros((0, 2, 2))
        zero, coefficients = np.zeros(3), np.array(self.distortion)
        # Columns of the Jacobian by translation, which shifts every point alike.
        if self.model == "equidistant" and self.distortion:
            pixels, slope = cv2.fisheye.projectPoints(points[:, None], zero, zero, self.matrix, coefficients)
            slope = slope[:, 11:13]
        else:
            pixels, slope = cv2.projectPoints(points[:, None], zero, zero, self.matrix, coefficients)[:2]
            slope = slope[:, 3:5]
        return pixels.reshape(-1, 2), slope.reshape(-1, 2, 2)

    def _undistorted(self, pixels: np.ndarray, start: np.ndarray) -> np.ndarray:
        if self.model == "equidistant":
            return self._undistorted_fisheye(start)
        xy = best = start
        least = np.full(len(start), np.inf)
        for _ in range(30):
            found, slope = self._project(np.column_stack([xy, np.ones(len(xy))]))
            missing = pixels - found
            error = np.linalg.norm(missing, axis=1)
            better = error < least
            best, least = np.where(better[:, None], xy, best), np.where(better, error, least)
            if np.all(least < 1e-4):
                break
            (a, b), (c, d) = np.moveaxis(slope, 0, -1)
            with np.errstate(all="ignore"):
                step = np.stack([d * missing[:, 0] - b * missing[:, 1], a * missing[:, 1] - c * missing[:, 0]], -1)
                step /= (a * d - b * c)[:, None]
                # Close to the widest ray of the lens a Newton step would lead far outside.
                step *= np.minimum(1, 0.5 / np.linalg.norm(step, axis=1, keepdims=True))
            xy = xy + np.where(np.isfinite(step), step, 0)
        return best

    def _undistorted_fisheye(self, distorted: np.ndarray) -> np.ndarray:
        k1, k2, k3, k4 = self.distortion
        bent = np.poly1d([k4, 0, k3, 0, k2, 0, k1, 0, 1, 0])
        radius = np.linalg.norm(distorted, axis=1)
        # Beyond the angle at which it turns back the polynomial means nothing.
        turns = [float(root.real) for root in bent.deriv().roots if abs(root.imag) < 1e-9 and root.real > 0]
        widest = min([*turns, _WIDEST])
        angle = np.minimum(radius, widest)
        for _ in range(30):
            rise = np.maximum(np.abs(bent.deriv()(angle)), 1e-3)
            angle = np.clip(angle - np.clip((bent(angle) - radius) / rise, -0.3, 0.3), 0, widest)
        return distorted * np.where(radius > 1e-9, np.tan(angle) / np.maximum(radius, 1e-9), 1.0)[:, None]


_WIDEST = math.radians(89.5)
"""Largest angle of a ray with z = 1 from the optical axis, radians."""


def _numbers(value: Any) -> Any:
    """The numbers of a matrix in YAML: under `data`, or a plain list."""
    if isinstance(value, Mapping) and "data" not in value:
        raise TypeError("a matrix has no data")
    return value["data"] if isinstance(value, Mapping) else value


def _ros_name(model: str, count: int) -> str:
    """The name in MODELS of a model with several names; any other name unchanged."""
    if not model and count or model not in MODELS and re.fullmatch(_POLYNOMIAL, model, re.IGNORECASE):
        return "plumb_bob" if count <= 5 else "rational_polynomial"
    return "equidistant" if re.fullmatch(_FISHEYE, model, re.IGNORECASE) else model


def _checked(model: str, distortion: tuple[float, ...]) -> tuple[float, ...]:
    """The coefficients to use. Raises InvalidInputError with what is allowed."""
    if model == "equidistant":
        if distortion and (len(distortion) < 4 or any(distortion[4:])):
            raise InvalidInputError(f"equidistant distortion has 4 coefficients, not {len(distortion)}")
        return distortion[:4]
    if not any(distortion):  # a perfect lens by any name
        return ()
    if model not in MODELS:
        raise InvalidInputError(f"distortion model {model[:40]!r} is not one of {', '.join(MODELS[:-1])}")
    if model == "none":
        raise InvalidInputError(f"distortion model none has no coefficients, not {distortion}")
    if len(distortion) not in COEFFICIENTS:
        allowed = ", ".join(map(str, COEFFICIENTS[:-1]))
        raise InvalidInputError(
            f"{model or 'plumb_bob'} distortion has {allowed} or {COEFFICIENTS[-1]} coefficients, not {len(distortion)}"
        )
    return distortion


@dataclass(frozen=True)
class Crop:
    """A square, possibly rotated, window of an image, resampled to `size` x `size` pixels.

    center: (u, v) in image pixels; side: length of the window's edge in image pixels; angle: radians by
    which the window is turned clockwise in the image; size: pixels along the crop's edge.

    >>> crop = Crop(center=(100.0, 50.0), side=64.0, size=32)
    >>> crop.to_crop(np.array([100.0, 50.0])).tolist()  # the middle of 32 pixels
    [15.5, 15.5]
    >>> crop.to_image(np.array([0.0, 0.0])).tolist()
    [69.0, 19.0]
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
        # Rotation and scale, inverted by hand: np.linalg.inv would wake NumPy 1's OpenBLAS threads, which then spin.
        linear = forward[:, :2].T / (self.side / self.size) ** 2
        return np.column_stack([linear, -linear @ forward[:, 2]])

    @property
    def finer(self) -> int:
        """Samples per axis averaged into a pixel, at most two image pixels apart against aliasing."""
        return min(max(math.ceil(self.side / (2 * self.size)), 1), 8)

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

        if self.finer > 1:
            samples = replace(self, size=self.finer * self.size).extract(image, border)
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
