"""Images, camera and depth messages to arrays. Nothing here imports ROS: any object with the fields will do.

A message that contradicts its definition raises InvalidInputError with one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera, part_of_sensor
from hand_pose_3d.encoded_images import MAX_SIDE, decode_image
from hand_pose_3d.errors import InvalidInputError


@dataclass(frozen=True)
class _Format:
    """Memory layout of an encoding: channels of `dtype`, and the OpenCV conversion to RGB, if needed."""

    channels: int
    dtype: str = "u1"
    to_rgb: str = ""


_FORMATS = {
    "rgb8": _Format(3),
    "bgr8": _Format(3, to_rgb="COLOR_BGR2RGB"),
    "rgba8": _Format(4, to_rgb="COLOR_RGBA2RGB"),
    "bgra8": _Format(4, to_rgb="COLOR_BGRA2RGB"),
    "mono8": _Format(1, to_rgb="COLOR_GRAY2RGB"),
    "rgb16": _Format(3, "u2"),
    "bgr16": _Format(3, "u2", "COLOR_BGR2RGB"),
    "rgba16": _Format(4, "u2", "COLOR_RGBA2RGB"),
    "bgra16": _Format(4, "u2", "COLOR_BGRA2RGB"),
    "mono16": _Format(1, "u2", "COLOR_GRAY2RGB"),
    # OpenCV's type names say nothing about the order of colours, which is then BGR.
    "8UC1": _Format(1, to_rgb="COLOR_GRAY2RGB"),
    "8UC3": _Format(3, to_rgb="COLOR_BGR2RGB"),
    "8UC4": _Format(4, to_rgb="COLOR_BGRA2RGB"),
    "16UC3": _Format(3, "u2", "COLOR_BGR2RGB"),
    "16UC4": _Format(4, "u2", "COLOR_BGRA2RGB"),
    "yuv422": _Format(2, to_rgb="COLOR_YUV2RGB_UYVY"),
    "uyvy": _Format(2, to_rgb="COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": _Format(2, to_rgb="COLOR_YUV2RGB_YUY2"),
    "yuyv": _Format(2, to_rgb="COLOR_YUV2RGB_YUY2"),
    "nv12": _Format(1, to_rgb="COLOR_YUV2RGB_NV12"),
    "nv21": _Format(1, to_rgb="COLOR_YUV2RGB_NV21"),
    # OpenCV names a Bayer pattern by its second row, second and third column.
    **{
        f"bayer_{pattern}{bits}": _Format(1, dtype, f"COLOR_Bayer{name}2RGB")
        for pattern, name in (("rggb", "BG"), ("bggr", "RG"), ("gbrg", "GR"), ("grbg", "GB"))
        for bits, dtype in ((8, "u1"), (16, "u2"))
    },
}

ENCODINGS = tuple(sorted(_FORMATS))
"""Encodings that are read without cv_bridge."""


def image_to_rgb(message: Any) -> np.ndarray:
    """RGB image (H, W, 3) uint8 of a sensor_msgs/Image.

    Shares the message's memory for rgb8. 16-bit encodings are taken to span the full range. Other encodings
    than ENCODINGS are read by cv_bridge where it works. Raises InvalidInputError for a message whose size, step and
    data contradict each other and for an encoding that cannot be read as colour.
    """
    encoding = str(message.encoding)
    layout = _FORMATS.get(encoding)
    if layout is None:
        return _by_cv_bridge(message)
    planar = encoding in ("nv12", "nv21")
    paired = layout.channels == 2 or planar
    pixels = _pixels(message, layout, planes=1.5 if planar else 1.0)
    if paired and message.width % 2 or planar and message.height % 2:
        raise InvalidInputError(f"a {encoding} image needs even sides, not {message.width}x{message.height}")
    if encoding.startswith("bayer") and min(message.width, message.height) < 2:
        raise InvalidInputError(f"a {encoding} image needs at least 2x2 pixels, not {message.width}x{message.height}")
    if layout.dtype == "u2":
        pixels = (pixels >> 8).astype(np.uint8)
    if not layout.to_rgb:
        return pixels

    import cv2

    if planar or encoding.startswith("bayer"):
        pixels = np.ascontiguousarray(pixels)
    return cv2.cvtColor(pixels, getattr(cv2, layout.to_rgb))


def depth_to_metres(message: Any) -> np.ndarray:
    """Depth (H, W) float32 in metres, NaN where unknown, of a sensor_msgs/Image: 16UC1 (mm) or 32FC1 (m), REP 118."""
    encoding = str(message.encoding)
    if encoding in ("16UC1", "mono16"):
        raw = _pixels(message, _Format(1, "u2"))
        return np.where(raw > 0, raw * np.float32(0.001), np.float32(np.nan))
    if encoding == "32FC1":
        raw = _pixels(message, _Format(1, "f4")).astype(np.float32)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(raw) & (raw > 0), raw, np.float32(np.nan))
    raise InvalidInputError(f"depth must be 16UC1 (millimetres) or 32FC1 (metres), not {encoding[:40]!r}")


def compressed_to_rgb(message: Any) -> np.ndarray:
    """RGB image (H, W, 3) uint8 of a sensor_msgs/CompressedImage with JPEG, PNG or TIFF data.

    `format` is read as compressed_image_transport writes it: "ENCODING; CODEC compressed ORDER", where the order of
    colours in the data is BGR, as the codec expects, only if it says so; a Bayer ENCODING is that of grey data.
    Raises InvalidInputError.
    """
    import cv2

    form = str(message.format)
    if "compressedDepth" in form:
        raise InvalidInputError("a compressedDepth message holds depth, not a colour image")
    encoding, separator, codec = (part.strip() for part in form.partition(";"))
    bayer = _FORMATS.get(encoding) if encoding.startswith("bayer_") else None
    try:
        # Pixels stay as the camera delivered them: CameraInfo does not take EXIF into account.
        image = decode_image(message.data, from_camera=True, mosaic=bayer is not None)
    except InvalidInputError as error:
        raise InvalidInputError(f"compressed image ({form[:60]!r}) is {error}") from error
    if image.ndim == 2:
        if bayer is None or min(image.shape) < 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return cv2.cvtColor(image, getattr(cv2, bayer.to_rgb))
    swapped = separator and encoding.startswith(("rgb", "bgr")) and "compressed bgr" not in codec
    return image if swapped else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def camera_from_info(message: Any, *, rectified: bool = False) -> Camera | None:
    """Camera of a sensor_msgs/CameraInfo, for the pixels of the images it goes with; None when it is uncalibrated.

    Binning and region of interest are applied as image_geometry does. rectified: take P and no distortion instead of
    K and D. An all-zero K (or P) means uncalibrated (sensor_msgs/CameraInfo). Raises InvalidInputError where
    :class:`Camera` does.
    """
    name, numbers, columns = ("P", message.p, 4) if rectified else ("K", message.k, 3)
    if len(numbers) != 3 * columns:
        raise InvalidInputError(f"CameraInfo: {name} has {3 * columns} numbers, not {len(numbers)}")
    k = np.array(numbers, dtype=float).reshape(3, columns)[:, :3]
    distortion = () if rectified else tuple(float(x) for x in message.d)
    if not np.any(k):
        return None
    roi = [int(each) for each in (message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height)]
    size, binning = (message.width, message.height), [int(message.binning_x), int(message.binning_y)]
    k, (width, height) = part_of_sensor(k, size, roi, binning)
    try:
        return Camera.from_matrix(k, width=width, height=height, distortion=distortion, model=message.distortion_model)
    except InvalidInputError as error:
        raise InvalidInputError(f"CameraInfo: {error}") from error


def rgb_to_image(image_rgb: np.ndarray, header: Any) -> Any:
    """A sensor_msgs/Image (rgb8) of an image (H, W, 3) uint8."""
    import array

    from sensor_msgs.msg import Image

    height, width = image_rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    # The message takes an array.array without converting each number, which bytes or a list would need.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image_rgb))  # type: ignore[arg-type]  # NumPy's arrays are buffers
    message.data = data
    return message


def _pixels(message: Any, layout: _Format, planes: float = 1.0) -> np.ndarray:
    """The message's memory as (H, W) or (H, W, C) of the layout's type, after its size was checked."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    encoding = str(message.encoding)
    if not 0 < height <= MAX_SIDE or not 0 < width <= MAX_SIDE:
        raise InvalidInputError(f"image of {width}x{height} pixels: each side must lie between 1 and {MAX_SIDE}")
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * layout.channels * dtype.itemsize
    if step < row:
        raise InvalidInputError(
            f"image step {step} is shorter than a row: {width} pixels of {encoding} take {row} bytes"
        )
    rows = int(height * planes)
    if len(message.data) != rows * step:
        raise InvalidInputError(
            f"image data has {len(message.data)} bytes; {height} rows of {encoding} with step {step} need {rows * step}"
        )
    shape: tuple[int, ...] = (rows, width) if layout.channels == 1 else (rows, width, layout.channels)
    strides: tuple[int, ...] = (step, layout.channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    pixels: np.ndarray = np.ndarray(shape, dtype, buffer=message.data, strides=strides)
    return pixels


def _by_cv_bridge(message: Any) -> np.ndarray:
    """Rare encodings, by cv_bridge, which may be missing or broken (as with NumPy 2)."""
    encoding = str(message.encoding)[:40]
    refusal = f"image encoding {encoding!r} cannot be read as colour; these can: {', '.join(ENCODINGS)}"
    if encoding.startswith(("16UC1", "16SC", "32", "64", "8SC")) or not encoding:
        raise InvalidInputError(refusal)
    try:
        from cv_bridge import CvBridge

        image = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # a broken installation may raise anything
        raise InvalidInputError(refusal) from error
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InvalidInputError(refusal)
    return image
