"""Cameras and crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.camera import MODELS, Camera, Crop
from hand_pose_3d.errors import InvalidInputError

PLAIN = Camera(600, 610, 320, 240, 640, 480)
BARREL = Camera(600, 610, 320, 240, 640, 480, distortion=(-0.25, 0.08, 0.001, -0.002, 0.01))
RATIONAL = Camera(
    600, 610, 320, 240, distortion=(0.5, -0.2, 0.0, 0.0, 0.02, 0.6, -0.1, 0.01), model="rational_polynomial"
)
FISHEYE = Camera(300, 300, 320, 240, distortion=(-0.02, 0.004, -0.001, 0.0002), model="equidistant")
YAML = """image_width: 640
image_height: 480
camera_name: webcam
camera_matrix:
  rows: 3
  cols: 3
  data: [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.25, 0.08, 0.001, -0.002, 0.01]
"""

PIXELS = st.tuples(st.floats(40, 600), st.floats(40, 440)).map(np.array)
CROPS = st.builds(
    Crop,
    center=st.tuples(st.floats(-100, 700), st.floats(-100, 500)),
    side=st.floats(5, 1000),
    size=st.integers(16, 320),
    angle=st.floats(-4, 4),
)


def test_projection_by_hand():
    np.testing.assert_allclose(PLAIN.project(np.array([[0.1, -0.2, 2.0]])), [[320 + 600 * 0.05, 240 - 610 * 0.1]])
    np.testing.assert_array_equal(PLAIN.matrix, [[600, 0, 320], [0, 610, 240], [0, 0, 1]])


@pytest.mark.parametrize("camera", [PLAIN, BARREL, RATIONAL, FISHEYE])
@given(pixel=PIXELS, depth=st.floats(0.1, 5))
def test_rays_lead_back_to_their_pixels(camera, pixel, depth):
    ray = camera.rays(pixel)
    assert ray[2] == 1
    np.testing.assert_allclose(camera.project(depth * ray), pixel, atol=1e-3)


WIDE = [
    Camera(430, 430, 320, 240, distortion=(-0.30, 0.08, 0.001, -0.001, -0.008)),
    Camera(300, 300, 320, 240, distortion=(-0.25, 0.05, 0.001, -0.001, -0.003)),
    Camera(
        250, 250, 320, 240, distortion=(3.2, 1.1, 3e-4, -2e-4, 0.05, 3.5, 2.0, 0.2), model="rational_polynomial"
    ),  # as depth cameras state their wide lens
    Camera(300, 300, 320, 240, distortion=(-0.3, 0.1, 0, 0, -0.01, 0, 0, 0, 0.01, -2e-3, 0.01, 1e-3, 0.02, -0.03)),
    Camera(500, 500, 320, 240, distortion=(0.5, 0.5, 0, 0, 0.5)),
    Camera(300, 300, 320, 240, distortion=(0, 0, 0, 0), model="equidistant"),
    Camera(270, 270, 320, 240, distortion=(-0.02, 0.004, -0.001, 0.0002), model="equidistant"),
]


@pytest.mark.parametrize("camera", WIDE)
def test_the_whole_picture_of_a_wide_lens_leads_back(camera):
    pixels = np.stack(np.meshgrid(np.linspace(0, 639, 33), np.linspace(0, 479, 25)), axis=-1)
    np.testing.assert_allclose(camera.project(camera.rays(pixels)), pixels, atol=0.05)


def test_pixels_that_no_ray_reaches_have_finite_rays():
    pixels = np.array([[-1e6, 3.0], [320.0, 240.0], [0.0, 0.0]])
    for distortion, model in (((-0.9, 0, 0, 0, 0), "plumb_bob"), ((-0.02, 0.004, -0.001, 0.0002), "equidistant")):
        rays = Camera(150, 150, 320, 240, distortion=distortion, model=model).rays(pixels)
        assert np.isfinite(rays).all()
        np.testing.assert_allclose(rays[1], [0, 0, 1], atol=1e-6)


def test_pixels_beyond_the_turn_of_a_fisheye_get_its_widest_ray():
    camera = Camera(300, 300, 319.5, 239.5, 640, 480, (-0.1, 0.02, -0.02, 0.002), "equidistant")
    angles = np.degrees(np.arctan(camera.rays(np.array([[u, 239.5] for u in np.arange(400.0, 900.0)]))[:, 0]))
    assert (np.diff(angles) >= -1e-6).all() and np.diff(angles).max() < 3 and angles[-1] < 85


@pytest.mark.parametrize("count", [4, 5, 8, 12, 14])
def test_a_mirrored_camera_sees_the_mirrored_world(count):
    numbers = np.random.default_rng(count).uniform(-0.02, 0.02, count)
    camera = Camera(500, 510, 340, 250, 640, 480, tuple(numbers))
    points = np.random.default_rng(0).uniform([-0.3, -0.2, 0.8], [0.3, 0.2, 1.2], (20, 3))
    seen = camera.mirrored().project(points * [-1, 1, 1])
    np.testing.assert_allclose(seen, camera.project(points) * [-1, 1] + [639, 0], atol=1e-9)
    assert camera.mirrored().mirrored() == camera


def test_a_mirrored_fisheye_sees_the_mirrored_world():
    camera = Camera(300, 300, 330, 250, 640, 480, (0.1, -0.02, 0.01, 0.002), "equidistant")
    points = np.random.default_rng(0).uniform([-0.9, -0.5, 0.5], [0.9, 0.5, 1.2], (20, 3))
    seen = camera.mirrored().project(points * [-1, 1, 1])
    np.testing.assert_allclose(seen, camera.project(points) * [-1, 1] + [639, 0], atol=1e-9)


def test_coefficients_without_a_model_are_named_for_others():
    for count, model in ((5, "plumb_bob"), (8, "rational_polynomial"), (0, "")):
        assert Camera(500, 500, 320, 240, distortion=(0.1,) * count, model="").model == model


@pytest.mark.parametrize("camera", [PLAIN, BARREL, FISHEYE])
def test_shapes_are_kept(camera):
    points = np.random.default_rng(0).uniform([-0.2, -0.2, 0.5], [0.2, 0.2, 1], (2, 3, 21, 3))
    pixels = camera.project(points)
    assert pixels.shape == (2, 3, 21, 2) and camera.rays(pixels).shape == points.shape
    np.testing.assert_allclose(pixels[1, 2, 20], camera.project(points[1, 2, 20]))


def test_distortion_matters():
    corner = np.array([0.5, 0.4, 1.0])
    assert np.linalg.norm(BARREL.project(corner) - PLAIN.project(corner)) > 5


@pytest.mark.parametrize(
    "fields",
    [
        {"fx": 0},
        {"fx": 1e-9},
        {"fy": 1e300},
        {"cy": -1e9},
        {"distortion": (1e300, 0, 0, 0)},
        {"distortion": (0.1,) * 5, "model": "fisheye"},
        {"fx": -1},
        {"fy": float("nan")},
        {"cx": float("inf")},
        {"distortion": (float("nan"),)},
        {"distortion": (0.1,) * 5, "model": "lens"},
        {"distortion": (0.1,) * 5, "model": "none"},
        {"distortion": (0.1,) * 3},
        {"distortion": (0.1,) * 6},
        {"distortion": (0.1,) * 2, "model": "equidistant"},
        {"distortion": "abc"},
        {"fx": None},
        {"width": "wide"},
        {"height": -480},
        {"width": 640},
        {"fx": 3.6, "fy": 3.6, "width": 640, "height": 480},  # millimetres
    ],
)
def test_impossible_cameras_are_refused(fields):
    with pytest.raises(InvalidInputError):
        Camera(**{"fx": 500, "fy": 500, "cx": 0, "cy": 0, **fields})


@pytest.mark.parametrize("place", range(9))
def test_matrices_with_nan_are_refused(place):
    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    Camera.from_matrix(matrix)
    matrix.flat[place] = np.nan
    with pytest.raises(InvalidInputError):
        Camera.from_matrix(matrix)


@pytest.mark.parametrize(("model", "distortion"), [("", ()), ("plumb_bob", (0.1,) * 5), ("equidistant", (0.1,) * 4)])
def test_no_points_have_no_pixels_and_no_rays(model, distortion):
    camera = Camera(500, 500, 320, 240, distortion=distortion, model=model)
    assert camera.project(np.zeros((0, 3))).shape == (0, 2) and camera.rays(np.zeros((0, 2))).shape == (0, 3)


@pytest.mark.parametrize(
    ("model", "distortion", "kept"),
    [
        ("plumb_bob", (-0.03, 0.03, 0, 0, -0.01, 0, 0, 0), 8),  # as some depth cameras publish it
        ("rational_polynomial", (0.09, -0.16, 0, 0, 0.12), 5),
        ("", (0.1,) * 4, 4),
        ("plumb_bob", (0.01,) * 12, 12),
        ("plumb_bob", (0.01,) * 14, 14),
        ("equidistant", (0.01,) * 4, 4),
        ("equidistant", (0.0,) * 4, 4),  # the ideal fisheye, which is no pinhole
        ("equidistant", (0.01,) * 4 + (0.0,), 4),
        ("none", (), 0),
        ("none", (0.0,) * 5, 0),
        ("pinhole", (0.0,) * 3, 0),
        ("ThinPrism", (0.01,) * 12, 12),
        ("RATIONAL_POLYNOMIAL", (0.01,) * 8, 8),
        ("fisheye", (0.01,) * 4, 4),
        (None, None, 0),
        ("plumb_bob", np.full((1, 5), 0.1), 5),
    ],
)
def test_distortions_that_are_taken(model, distortion, kept):
    size: list = [None, None]
    camera = Camera(np.float32(500), 500, 0, 0, *size, distortion=distortion, model=model)
    assert len(camera.distortion) == kept and (camera.width, camera.height) == (0, 0)
    assert camera == Camera(500, 500, 0, 0, 0, 0, camera.distortion, camera.model) and hash(camera)
    assert camera.model in MODELS or not kept
    assert (camera.model == "equidistant") == (model in ("equidistant", "fisheye"))


def test_a_camera_is_scaled_to_images_of_its_own_shape_only():
    half = BARREL.fitted_to(320, 240)
    point = np.array([0.1, -0.05, 0.6])
    # The centre of the first pixel lies at zero in images of both sizes.
    np.testing.assert_allclose(half.project(point) + 0.5, (BARREL.project(point) + 0.5) / 2, atol=1e-9)
    assert (half.width, half.height) == (320, 240) and half.fitted_to(640, 480).fx == BARREL.fx
    assert BARREL.fitted_to(640, 480) is BARREL
    unknown = RATIONAL.fitted_to(700, 456)
    assert (unknown.width, unknown.height) == (700, 456) and unknown.matrix.tolist() == RATIONAL.matrix.tolist()
    with pytest.raises(InvalidInputError, match=r"\(320, 240\) lies outside of images of 123x456"):
        RATIONAL.fitted_to(123, 456)
    with pytest.raises(InvalidInputError, match="too short"):
        Camera(4, 4, 3, 2).fitted_to(640, 480)
    assert Camera(900, 900, 960, 540, 1920, 1080).fitted_to(1366, 768).fx == pytest.approx(640.3, abs=0.1)
    for size in ((1280, 720), (480, 640), (640, 470)):
        with pytest.raises(InvalidInputError, match="640x480"):
            BARREL.fitted_to(*size)


def test_calibration_file_of_plain_lists_and_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "k.yaml").write_text(
        "camera_matrix: [[600, 0, 320], [0, 610, 240], [0, 0, 1]]\ndistortion_model: ~\n"
        "distortion_coefficients: [-0.25, 0.08, 0.001, -0.002, 0.01]\nimage_width: 640\nimage_height: 480\n"
    )
    assert Camera.from_yaml("~/k.yaml") == Camera(600, 610, 320, 240, 640, 480, BARREL.distortion, "")
    (tmp_path / "none.yaml").write_text(YAML.replace("plumb_bob", "none").replace("[-0.25, 0.08", "[0, 0, 0]  # "))
    assert Camera.from_yaml(tmp_path / "none.yaml").distortion == ()
    (tmp_path / "none.yaml").write_text(YAML[: YAML.index("distortion_model")] + "distortion_coefficients: ~\n")
    assert Camera.from_yaml(tmp_path / "none.yaml").distortion == ()


@pytest.mark.parametrize(
    "text",
    [
        "%YAML:1.0\n---\n"  # as OpenCV writes it
        + YAML.replace("camera_matrix:", "camera_matrix: !!opencv-matrix")
        .replace("coefficients:", "coefficients: !!opencv-matrix")
        .replace("cols: 3", "cols: 3\n  dt: d"),
        "header: {frame_id: cam}\nheight: 480\nwidth: 640\ndistortion_model: plumb_bob\n"  # ros2 topic echo
        "d: [-0.25, 0.08, 0.001, -0.002, 0.01]\nk: [600, 0, 320, 0, 610, 240, 0, 0, 1]\n---\n",
    ],
)
def test_calibrations_of_other_programs(text, tmp_path):
    (tmp_path / "k.yaml").write_text(text)
    assert Camera.from_yaml(tmp_path / "k.yaml") == BARREL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (YAML.replace("  data: [-0.25", "  dato: [-0.25"), "a matrix has no data"),
        ("cam0: {intrinsics: [600, 600, 320, 240]}", "it has no camera_matrix"),
        (YAML.replace("  rows: 3", "\trows: 3"), r"'\\t' that cannot start any token"),
    ],
)
def test_what_a_calibration_file_lacks_is_named(text, words, tmp_path):
    (tmp_path / "k.yaml").write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        Camera.from_yaml(tmp_path / "k.yaml")


@pytest.mark.parametrize("roi", ["[0, 0, 640, 480]", "3"])
def test_a_part_of_the_sensor_that_is_no_mapping(roi, tmp_path):
    (tmp_path / "k.yaml").write_text(f"{{width: 640, height: 480, k: [600, 0, 320, 0, 600, 240, 0, 0, 1], roi: {roi}}}")
    with pytest.raises(InvalidInputError, match=r"k.yaml .*its roi is no mapping"):
        Camera.from_yaml(tmp_path / "k.yaml")


def test_a_file_of_a_part_of_the_sensor(tmp_path):
    """As `ros2 topic echo` prints it: calibrated at 640x480, of which half in each direction is read, two by two."""
    (tmp_path / "k.yaml").write_text(
        "{width: 640, height: 480, k: [600, 0, 320, 0, 600, 240, 0, 0, 1], d: [], binning_x: 2, binning_y: 2, "
        "roi: {x_offset: 280, y_offset: 120, width: 320, height: 240, do_rectify: false}}"
    )
    assert Camera.from_yaml(tmp_path / "k.yaml") == Camera(300, 300, 20, 60, 160, 120, (), "")


def test_calibration_file(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(YAML)
    assert Camera.from_yaml(path) == BARREL
    for text in (
        "",
        "- 1",
        "camera_matrix: 3",
        YAML.replace("610.0, ", ""),
        YAML.replace("plumb_bob", "lens"),
        "a: [",
        "[" * 3000,
        "camera_matrix: {data: [1, 2]}\nimage_width: .inf",
        YAML.replace("480", ".inf"),
        YAML.replace("640", "wide"),
        YAML + "x: 2001-99-99",
        "# " + "x" * 2_000_000,
        "\x00",
    ):
        path.write_text(text)
        with pytest.raises(InvalidInputError):
            Camera.from_yaml(path)
    with pytest.raises(InvalidInputError, match="No such file"):
        Camera.from_yaml(tmp_path / "none.yaml")


@given(CROPS, PIXELS)
def test_crop_and_back(crop, pixel):
    np.testing.assert_allclose(crop.to_image(crop.to_crop(pixel)), pixel, atol=1e-6)


@given(CROPS)
def test_crop_keeps_centre_scale_and_turn(crop):
    middle = (crop.size - 1) / 2
    np.testing.assert_allclose(crop.to_image(np.array([middle, middle])), crop.center, atol=1e-9)
    across = crop.to_image(np.array([middle + 1, middle])) - crop.to_image(np.array([middle, middle]))
    step = crop.side / crop.size
    np.testing.assert_allclose(across, [step * np.cos(crop.angle), step * np.sin(crop.angle)], atol=1e-6)


def spot(size, at):
    """A soft spot in a dark image, so that resampling keeps its centre of mass."""
    v, u = np.mgrid[: size[1], : size[0]]
    return (255 * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / 60)).astype(np.uint8)


def centre_of_mass(image):
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image.astype(float)
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("side", [60, 128, 200, 400])
@pytest.mark.parametrize("angle", [0, 0.7, -2.5])
def test_extracted_pixels_lie_where_the_map_says(side, angle):
    image = spot((640, 480), (300.4, 221.7))
    crop = Crop(center=(310, 215), side=side, size=64, angle=angle)
    found = centre_of_mass(crop.extract(image))
    np.testing.assert_allclose(found, crop.to_crop(np.array([300.4, 221.7])), atol=0.3)


def test_the_whole_image_as_a_crop_is_the_image():
    image = np.random.default_rng(1).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Crop((23.5, 23.5), 48, 48).extract(image), image)


def test_outside_is_the_border():
    image = np.full((32, 32, 3), 200, np.uint8)
    crop = Crop((0, 0), 32, 32)
    assert crop.extract(image)[0, 0].tolist() == [0, 0, 0]
    assert crop.extract(image, border=(9, 8, 7))[0, 0].tolist() == [9, 8, 7]
    assert crop.extract(image)[-1, -1].tolist() == [200, 200, 200]
    far = Crop((1e4, 1e4), 10, 32).extract(image, border=3)
    assert (far == 3).all()


def test_shrunk_crops_are_averages():
    noise = np.random.default_rng(2).integers(0, 256, (512, 512), dtype=np.uint8)
    crop = Crop((255.5, 255.5), 512, 64).extract(noise)
    # A pixel stands for 64: their mean varies by an eighth. Samples of the image itself would vary by half or more.
    assert abs(float(crop.mean()) - 127.5) < 2 and crop.std() < 0.25 * noise.std()


def test_crop_of_a_mask_has_no_channels():
    assert Crop((5, 5), 10, 20).extract(np.zeros((10, 10), np.uint8)).shape == (20, 20)
