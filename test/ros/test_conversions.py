"""Every encoding, padding and byte order; and nothing but InvalidInputError from messages that are damaged."""

from __future__ import annotations

import sys
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.conversions import (
    ENCODINGS,
    camera_from_info,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)

HEIGHT, WIDTH = 12, 16


def scene() -> np.ndarray:
    """A smooth RGB picture whose channels differ, so that a swapped one is noticed."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([40 + 6 * u, 200 - 5 * v, 90 + 3 * u + 2 * v], axis=-1).astype(np.uint8)


def message(pixels: np.ndarray, encoding: str, *, height=HEIGHT, width=WIDTH, padding=0, big=False) -> SimpleNamespace:
    """An Image message of rows of pixels (rows, ...), each followed by padding bytes of 0xAB."""
    if pixels.dtype.itemsize > 1:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=int(big), data=rows.tobytes()
    )


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor behind a Bayer filter sees; pattern names the top left 2x2 pixels row by row."""
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for k, colour in enumerate(pattern):
        out[k // 2 :: 2, k % 2 :: 2] = rgb[k // 2 :: 2, k % 2 :: 2, "rgb".index(colour)]
    return out


def yuv(rgb: np.ndarray) -> np.ndarray:
    """Y, U, V (H, W, 3) by ITU-R BT.601 with video levels, as OpenCV's YUV 4:2:2 and 4:2:0 conversions use."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return np.clip(np.rint(np.stack([y, u, v], -1)), 0, 255).astype(np.uint8)


def encode(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """The pixels of rgb in an encoding, as rows."""
    deep = encoding.endswith("16") or encoding.startswith("16U")
    if deep:
        rgb = rgb.astype(np.uint16) * 257
    opaque = np.full((*rgb.shape[:2], 1), rgb.dtype.type(7))
    name = encoding.removesuffix("16").removesuffix("8")
    if encoding.startswith("bayer_"):
        return mosaic(rgb, name[6:])
    if name in ("rgb", "bgr", "rgba", "bgra"):
        ordered = rgb if name.startswith("rgb") else rgb[..., ::-1]
        return np.concatenate([ordered, opaque], -1) if name.endswith("a") else ordered
    if encoding in ("8UC3", "16UC3"):
        return rgb[..., ::-1]
    if encoding in ("8UC4", "16UC4"):
        return np.concatenate([rgb[..., ::-1], opaque], -1)
    if encoding in ("mono8", "mono16", "8UC1"):
        return rgb[..., 0]
    y, u, v = np.moveaxis(yuv(rgb), -1, 0)
    if encoding in ("yuv422", "uyvy"):
        chroma = np.where(np.arange(WIDTH) % 2 == 0, u, v)
        return np.stack([chroma, y], -1)
    if encoding in ("yuv422_yuy2", "yuyv"):
        chroma = np.where(np.arange(WIDTH) % 2 == 0, u, v)
        return np.stack([y, chroma], -1)
    assert encoding in ("nv12", "nv21")
    first, second = (u, v) if encoding == "nv12" else (v, u)
    chroma = np.stack([first[::2, ::2], second[::2, ::2]], -1).reshape(HEIGHT // 2, WIDTH)
    return np.concatenate([y, chroma])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_shows_the_same_picture(encoding, padding, big):
    rgb = scene()
    got = image_to_rgb(message(encode(rgb, encoding), encoding, padding=padding, big=big))
    assert got.shape == (HEIGHT, WIDTH, 3) and got.dtype == np.uint8
    if encoding in ("mono8", "mono16", "8UC1"):
        np.testing.assert_array_equal(got, np.repeat(rgb[..., :1], 3, axis=-1))
    elif encoding.startswith(("bayer", "yuv", "uyvy", "yuyv", "nv")):
        # Interpolated colour, exact only where the picture is linear: away from the border.
        difference = np.abs(got.astype(int) - rgb)[2:-2, 2:-2]
        assert difference.max() <= (6 if encoding.startswith("bayer") else 10)
    else:
        np.testing.assert_array_equal(got, rgb)


def test_rgb8_shares_the_memory_of_the_message():
    data = bytearray(scene().tobytes())
    shown = image_to_rgb(
        SimpleNamespace(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH, is_bigendian=0, data=data)
    )
    data[0] = 1
    assert shown[0, 0, 0] == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": 47}, "step 47"),
        ({"step": 49}, "bytes"),
        ({"data": b""}, "0 bytes"),
        ({"data": b"\0" * 10_000}, "10000 bytes"),
        ({"width": 0}, "0x12"),
        ({"height": 0}, "16x0"),
        ({"height": 2**31, "width": 2**31}, "between 1 and"),
        ({"encoding": "klingon8"}, "klingon8"),
        ({"encoding": ""}, "cannot be read as colour"),
        ({"encoding": "16UC1"}, "16UC1"),
        ({"encoding": "32FC1"}, "32FC1"),
        ({"encoding": "rgb16"}, "step 48"),
    ],
)
def test_malformed_images_are_refused_in_a_sentence(change, says):
    bad = message(scene(), "rgb8")
    bad.__dict__.update(change)
    with pytest.raises(InvalidInputError, match=says):
        image_to_rgb(bad)


@pytest.mark.parametrize("encoding", ["yuv422", "yuv422_yuy2", "nv12", "nv21"])
def test_shared_chroma_needs_even_sides(encoding):
    pixels = np.zeros((int(4 * (1.5 if encoding.startswith("nv") else 1)), 5, 1 if encoding.startswith("nv") else 2))
    with pytest.raises(InvalidInputError, match="even"):
        image_to_rgb(message(pixels.astype(np.uint8), encoding, height=4, width=5))


def test_cv_bridge_reads_what_is_rare_and_its_failure_is_a_sentence(monkeypatch):
    odd = message(scene(), "bgr8_rare")

    class Works:
        def imgmsg_to_cv2(self, image, desired_encoding):
            assert desired_encoding == "rgb8"
            return scene()

    class Breaks:
        def __init__(self):
            raise AttributeError("_ARRAY_API not found")  # as cv_bridge built for NumPy 1 does with NumPy 2

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=Works))
    np.testing.assert_array_equal(image_to_rgb(odd), scene())
    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=Breaks))
    with pytest.raises(InvalidInputError, match="bgr8_rare"):
        image_to_rgb(odd)


@pytest.mark.parametrize("big", [False, True])
def test_depth_in_millimetres_and_metres(big):
    metres = np.linspace(0.2, 3.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    holes = metres.copy()
    holes[0, 0] = 0
    got = depth_to_metres(message(np.rint(holes * 1000).astype(np.uint16), "16UC1", padding=3, big=big))
    assert np.isnan(got[0, 0])
    np.testing.assert_allclose(got.ravel()[1:], metres.ravel()[1:], atol=6e-4)
    holes[0, 1], holes[0, 2], holes[0, 3] = np.nan, np.inf, -1
    got = depth_to_metres(message(holes.astype(np.float32), "32FC1", big=big))
    assert np.isnan(got[0, :4]).all() and got.dtype == np.float32
    np.testing.assert_allclose(got.ravel()[4:], metres.ravel()[4:], rtol=1e-6)
    with pytest.raises(InvalidInputError, match="millimetres"):
        depth_to_metres(message(scene(), "rgb8"))


def compressed(data: bytes, form: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def test_compressed_images():
    bgr = np.ascontiguousarray(scene()[..., ::-1])
    png = cv2.imencode(".png", bgr)[1].tobytes()
    np.testing.assert_array_equal(compressed_to_rgb(compressed(png, "rgb8; png compressed bgr8")), scene())
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    assert np.abs(compressed_to_rgb(compressed(jpeg)).astype(int) - scene()).max() < 25
    gray = cv2.imencode(".png", bgr[..., 0])[1].tobytes()
    np.testing.assert_array_equal(compressed_to_rgb(compressed(gray)), np.repeat(scene()[..., 2:], 3, -1))


@pytest.mark.parametrize(
    ("form", "suffix", "order"),
    [  # as compressed_image_transport names them; the data of the codec hold colours as BGR
        ("jpeg", ".jpg", "bgr"),
        ("rgb8; jpeg compressed bgr8", ".jpg", "bgr"),
        ("bgr8; jpeg compressed bgr8", ".jpg", "bgr"),
        ("rgb8; jpeg compressed rgb8", ".jpg", "rgb"),
        ("bgra8; jpeg compressed bgr8", ".jpg", "bgr"),
        ("yuv422_yuy2; jpeg compressed bgr8", ".jpg", "bgr"),
        ("rgb8;png compressed rgb8", ".png", "rgb"),
        ("rgb16; png compressed bgr16", ".png", "bgr"),
        ("rgb8; tiff compressed bgr8", ".tiff", "bgr"),
        ("bgr8; tiff compressed ", ".tiff", "rgb"),
        ("bayer_rggb8; jpeg compressed bgr8", ".jpg", "bgr"),
    ],
)
def test_formats_of_compressed_image_transport_in_colour(form, suffix, order):
    rgb = np.empty((32, 32, 3), np.uint8)
    rgb[:] = 220, 120, 40
    stored = (rgb if order == "rgb" else rgb[..., ::-1]).astype(np.uint16 if "16" in form else np.uint8)
    stored = stored * 257 if "16" in form else stored
    data = cv2.imencode(suffix, np.ascontiguousarray(stored))[1].tobytes()
    assert np.abs(compressed_to_rgb(compressed(data, form)).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("bits", "suffix"), [(8, ".png"), (16, ".png"), (8, ".tiff"), (16, ".tiff")])
def test_compressed_bayer_images_are_colour(pattern, bits, suffix):
    grid = mosaic(scene(), pattern).astype(np.uint16 if bits == 16 else np.uint8) * (257 if bits == 16 else 1)
    data = cv2.imencode(suffix, grid)[1].tobytes()
    got = compressed_to_rgb(compressed(data, f"bayer_{pattern}{bits}; {suffix[1:]} compressed "))
    assert np.abs(got.astype(int) - scene())[2:-2, 2:-2].max() <= 6


def test_grey_compressed_images_and_jpegs_without_an_end():
    grey = scene()[..., 0]
    for form, pixels in (("mono8; png compressed ", grey), ("mono16; png compressed ", grey.astype(np.uint16) * 257)):
        data = cv2.imencode(".png", pixels)[1].tobytes()
        np.testing.assert_array_equal(compressed_to_rgb(compressed(data, form)), np.dstack([grey] * 3))
    jpeg = cv2.imencode(".jpg", scene())[1].tobytes()
    whole = compressed_to_rgb(compressed(jpeg))
    np.testing.assert_array_equal(compressed_to_rgb(compressed(jpeg[:-2])), whole)
    np.testing.assert_array_equal(compressed_to_rgb(compressed(jpeg[:-2] + bytes(64))), whole)


def png(width: int, height: int) -> bytes:
    """A PNG of sound chunks that hold no picture."""
    out = b"\x89PNG\r\n\x1a\n"
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\2\0\0\0"
    for kind, content in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        out += len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    return out


@pytest.mark.parametrize(
    ("data", "form", "says"),
    [
        (b"", "jpeg", "not an image"),
        (b"hello, world", "jpeg", "not an image"),
        (b"\xff\xd8\xff\xd9", "jpeg", "damaged"),
        (png(60000, 60000), "png", "60000x60000"),
        (png(16, 12), "png", "decode"),
        (cv2.imencode(".png", scene())[1].tobytes()[:60], "png", "cut off"),
        (cv2.imencode(".jpg", scene())[1].tobytes()[:100], "jpeg", "cut off"),
        (cv2.imencode(".png", scene())[1].tobytes(), "16UC1; compressedDepth png", "depth"),
    ],
)
def test_malformed_compressed_images(data, form, says):
    with pytest.raises(InvalidInputError, match=says):
        compressed_to_rgb(compressed(data, form))


def info(**changes) -> SimpleNamespace:
    fields = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.05, 0.001, 0.0, 0.0],
        "k": [500.0, 0, 320, 0, 510.0, 240, 0, 0, 1],
        "p": [450.0, 0, 300, 0, 0, 460.0, 250, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**{**fields, **changes})


def test_camera_from_info():
    camera = camera_from_info(info())
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320, 240)
    assert (camera.width, camera.height, camera.distortion) == (640, 480, (0.1, -0.05, 0.001, 0.0, 0.0))
    rectified = camera_from_info(info(), rectified=True)
    assert (rectified.fx, rectified.cy, rectified.distortion) == (450, 250, ())
    assert camera_from_info(info(k=[0.0] * 9)) is None
    assert camera_from_info(info(d=[], distortion_model="")).distortion == ()


def test_binning_and_region_of_interest():
    region = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=300)
    camera = camera_from_info(info(roi=region, binning_x=2, binning_y=2))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (250, 255, 110, 100)
    for shape in ((150, 200, 3), (480, 640)):
        camera.fitted_to(*shape[1::-1])
    with pytest.raises(InvalidInputError, match="200x150"):
        camera.fitted_to(642, 480)


@pytest.mark.parametrize(
    "change",
    [
        {"k": [float("nan")] * 9},
        {"k": [float("inf"), 0, 1, 0, 1, 1, 0, 0, 1]},
        {"k": [-500.0, 0, 320, 0, 510.0, 240, 0, 0, 1]},
        {"k": [500.0, 0, 320, 0, 0.0, 240, 0, 0, 1]},
        {"k": [500.0, 0, 320, 0, 510.0, 240, 0, 0, 0]},
        {"d": [float("nan")] * 5},
        {"d": [0.1] * 3},
        {"d": [0.1] * 5, "distortion_model": "equidistant"},
        {"d": [0.1] * 2, "distortion_model": "equidistant"},
        {"d": [0.1] * 5, "distortion_model": "none"},
        {"distortion_model": "thin_glass"},
        {"k": [500.0] * 8},
        {"k": [500.0, 20, 320, 0, 510.0, 240, 0, 0, 1]},
    ],
)
def test_bad_camera_info(change):
    with pytest.raises(InvalidInputError):
        camera_from_info(info(**change))


def test_fuzzed_messages_raise_nothing_else():
    """Thousands of damaged messages of all kinds: an array of the stated size, or InvalidInputError."""
    random = np.random.default_rng(20170)
    rgb = scene()
    read = 0
    strange = [*ENCODINGS, "16UC1", "32FC1", "8SC3", "", "rgb8\0", "64FC3", "bayer_", "RGB8"]
    sides = [0, 1, 2, 5, HEIGHT, WIDTH, 4096, 2**31, 2**32 - 1]
    for _ in range(6000):
        encoding = ENCODINGS[random.integers(len(ENCODINGS))]
        made = message(encode(rgb, encoding), encoding, padding=int(random.integers(3)), big=bool(random.integers(2)))
        for _ in range(random.integers(3)):
            field = ("height", "width", "step", "encoding", "data")[random.integers(5)]
            if field in ("height", "width"):
                value: object = sides[random.integers(len(sides))]
            elif field == "step":
                value = int(random.choice([0, 1, made.step - 1, made.step + 1, 2 * made.step, 2**32 - 1]))
            elif field == "encoding":
                value = strange[random.integers(len(strange))]
            else:
                value = made.data[: random.integers(len(made.data) + 1)] * int(random.integers(1, 3))
            setattr(made, field, value)
        for convert in (image_to_rgb, depth_to_metres):
            try:
                got = convert(made)
            except InvalidInputError as error:
                assert 10 < len(str(error)) < 600 and "\n" not in str(error)
            else:
                read += 1
                assert got.shape[:2] == (made.height, made.width)
    assert read > 1000


def test_fuzzed_compressed_images_raise_nothing_else():
    random = np.random.default_rng(7)
    whole = [cv2.imencode(kind, scene())[1] for kind in (".jpg", ".png")]
    for _ in range(3000):
        data = whole[random.integers(2)].copy()
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data))] = random.integers(256)
        if random.integers(2):
            data = data[: random.integers(len(data))]
        try:
            got = compressed_to_rgb(compressed(data.tobytes()))
        except InvalidInputError as error:
            assert "\n" not in str(error)
        else:
            assert got.ndim == 3 and got.dtype == np.uint8


def test_fuzzed_camera_info_raises_nothing_else():
    random = np.random.default_rng(3)
    numbers = [0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 500.0]
    models = ["plumb_bob", "rational_polynomial", "equidistant", "", "x" * 200]
    for _ in range(3000):
        k = list(info().k)
        for _ in range(random.integers(3)):
            k[random.integers(9)] = numbers[random.integers(len(numbers))]
        distortion = [numbers[random.integers(len(numbers))] for _ in range(random.integers(16))]
        region = SimpleNamespace(
            **{n: int(random.integers(2**32)) for n in ("x_offset", "y_offset", "width", "height")}
        )
        made = info(k=k, d=distortion, distortion_model=models[random.integers(5)], binning_x=int(random.integers(4)))
        if random.integers(2):
            made.roi = region
        try:
            camera = camera_from_info(made, rectified=bool(random.integers(2)))
        except InvalidInputError as error:
            assert "\n" not in str(error)
        else:
            assert camera is None or np.isfinite(camera.matrix).all()
