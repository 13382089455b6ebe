"""Encoded pictures: their format, by content, and one rule for decoding them to 8-bit colour.

Damaged ones are refused before any large memory is allocated.
"""

from __future__ import annotations

import os
import re
import struct
import zlib

import numpy as np

from hand_pose_3d.errors import InvalidInputError

MAX_SIDE = 16384
"""Pixels; wider or higher images are refused as damaged. Far above any camera's."""

HEAD = 400
"""Number of bytes at the start of a file from which its format is recognised."""

# OpenCV reads this limit on import; it matters for the formats whose headers are not checked here.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_SIDE * MAX_SIDE))

_IMAGES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "BMP": rb"BM.{4}\0{4}",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WebP": rb"RIFF.{4}WEBP",
    "PNM": rb"P[1-7]\s",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIC": rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
    "OpenEXR": rb"\x76\x2f\x31\x01",
}
_VIDEOS = (
    rb".{4}(ftyp|moov|mdat|free|skip|wide|pnot)|RIFF.{4}AVI |\x1aE\xdf\xa3|OggS|FLV\x01|GIF8[79]a|\0\0\x01[\xba\xb3]|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11|\.RMF|DKIF|YUV4MPEG2|\x47.{187}\x47|.{4}\x47.{191}\x47"
)
_END_OF_JPEG = b"\xff\xd9"


def image_format(head: bytes) -> str:
    """Name of the picture format that bytes begin with, '' if none is known."""
    return next((name for name, pattern in _IMAGES.items() if re.match(pattern, head, re.DOTALL)), "")


def is_video_container(head: bytes) -> bool:
    """Whether bytes begin as a video container (or an animated GIF) does."""
    return not image_format(head) and re.match(_VIDEOS, head, re.DOTALL) is not None


def is_motion_jpeg(data: bytes) -> bool:
    """Whether a JPEG is a video: several pictures of one size in a row that are not parts of one photograph.

    Photographs may carry thumbnails, depth and second views (MPF).
    """
    end = data.find(_END_OF_JPEG + b"\xff\xd8\xff")
    try:
        return end > 0 and b"MPF\0" not in data[:end] and _jpeg_size(data) == _jpeg_size(data[end + 2 :])
    except InvalidInputError:
        return False


def decode_image(data: bytes, *, from_camera: bool = False, mosaic: bool = False) -> np.ndarray:
    """A JPEG, PNG, TIFF or other picture as (H, W, 3) uint8 BGR.

    Grey, palette, alpha and 16-bit pictures are accepted: alpha is dropped, 16 bits are taken to span the full range.
    A JPEG may lack its end marker, as some cameras send it, and is refused if more is missing. A photograph is rotated
    by its EXIF orientation (not a TIFF or AVIF). from_camera: it is not, and a JPEG that lacks its last block at most
    counts as whole. mosaic: keep a single channel, (H, W), as a Bayer pattern needs.
    Raises InvalidInputError, whose text starts with what the data are.
    """
    import cv2

    data = bytes(data)
    kind = image_format(data[:HEAD])
    if not kind:
        raise InvalidInputError(f"not an image that OpenCV can decode ({len(data)} bytes)")
    if kind in _SIZES:
        height, width = _SIZES[kind](data)
        if not 0 < height <= MAX_SIDE or not 0 < width <= MAX_SIDE:
            raise InvalidInputError(f"a {kind} of {width}x{height} pixels: each side must lie between 1 and {MAX_SIDE}")
    # With the channels and bit depth of the data; else as colour.
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR if mosaic else cv2.IMREAD_COLOR
    if kind == "TIFF":  # floating-point numbers, as 8 bits, are all white in OpenCV 4
        flags |= cv2.IMREAD_ANYDEPTH
    flags |= cv2.IMREAD_IGNORE_ORIENTATION if from_camera else 0
    endless, baseline = False, False
    if kind == "JPEG":
        frame = _jpeg_frame(data)
        endless, baseline = _END_OF_JPEG not in data[frame:], data[frame + 1] in (0xC0, 0xC1)
    if endless:
        data = data.rstrip(b"\xff")  # half a marker
    image = decode_raw(data + _END_OF_JPEG if endless else data, flags)
    if endless and not (from_camera and baseline and image is not None and not _ends_flat(image)):
        # Bytes after a complete picture change nothing; in a picture that is cut off they would be decoded as pixels.
        other = decode_raw(data + 512 * b"\x55" + _END_OF_JPEG, flags)
        if image is None or other is None or not np.array_equal(image, other):
            raise InvalidInputError("a JPEG that is cut off")
    if image is None:
        hint = ": convert it to JPEG" if kind == "HEIC" else ", or it is damaged"
        raise InvalidInputError(f"a {kind} image ({len(data)} bytes) that this OpenCV cannot decode{hint}")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InvalidInputError(f"a {kind} image of {image.dtype} numbers: 8 or 16 bits a channel are needed")
    return image


def _ends_flat(image: np.ndarray) -> bool:
    """Whether the last pixels of an image are of one colour, as those of a baseline JPEG are that is cut off."""
    return not np.ptp(image[-1, -8:], axis=0).any()


def decode_raw(data: bytes, flags: int) -> np.ndarray | None:
    """A picture as OpenCV decodes it with these IMREAD flags; None if it cannot."""
    import cv2

    be_quiet()
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        return None


def be_quiet() -> None:
    """Silence OpenCV and FFmpeg, which report every damaged frame; our own errors say what matters."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "setLogLevel"):  # builds have one or the other
        cv2.setLogLevel(0)
    elif hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _png_size(data: bytes) -> tuple[int, int]:
    """Check all chunks: OpenCV would allocate as much memory as a damaged length says, which can take many seconds."""
    at, size = 8, None
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            break
        if size is None:
            if kind != b"IHDR" or length != 13:
                break
            width, height = struct.unpack(">II", data[at + 8 : at + 16])
            size = height, width
        if kind == b"IEND":
            return size
        at = end + 4
    raise InvalidInputError("a PNG that is cut off or damaged")


def _jpeg_frame(data: bytes) -> int:
    """Offset of the frame header of a JPEG, behind any thumbnail. Raises InvalidInputError."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise InvalidInputError("a JPEG that is cut off or damaged")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = _jpeg_frame(data)
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    return height, width


def _bmp_size(data: bytes) -> tuple[int, int]:
    if len(data) < 26:
        raise InvalidInputError("a BMP that is cut off")
    width, height = struct.unpack("<ii", data[18:26])
    return abs(height), abs(width)


_SIZES = {"PNG": _png_size, "JPEG": _jpeg_size, "BMP": _bmp_size}
