"""Metric placement: exact without noise, honest with it, silent where nothing can be said."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of, relaxed

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import bone_length, rotation_to_ray
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.placement import CALIBRATED_SPREAD, REFERENCE_LENGTH_M, REFERENCE_SPREAD, place, reference_units
from hand_pose_3d.skeleton import BONES, FINGER_BASES, Side

CAMERA = Camera(500, 505, 322, 238, 640, 480, (0.05, -0.1, 0.001, -0.001, 0.02))


def world_hand(rng: np.random.Generator, size: float = 1.0, distance: tuple[float, float] = (0.3, 1.5)) -> np.ndarray:
    """(21, 3) metres in the camera frame; reference bone = size * REFERENCE_LENGTH_M."""
    points = keypoints_of(relaxed(rng))
    points = points * (size * REFERENCE_LENGTH_M / np.linalg.norm(points[6] - points[5]))
    z = rng.uniform(*distance)
    turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    points = points @ turn.T + [rng.uniform(-0.35, 0.35) * z, rng.uniform(-0.25, 0.25) * z, z]
    points[:, 2] += max(0.0, 0.15 - points[:, 2].min())
    return points


def observed(rng: np.random.Generator, points: np.ndarray, px: float, relative: float, turn: float, size: float = 0.0):
    """A hand as a network sees it: noise on pixels (share of the box), pose (units), turn (rad), size in the image."""
    pixels = CAMERA.project(points)
    middle = pixels.mean(axis=0)
    pixels = middle + (pixels - middle) * np.exp(rng.normal(0, size))
    pixels = pixels + rng.normal(0, px * np.ptp(pixels, axis=0).max(), pixels.shape)
    bone = np.linalg.norm(points[6] - points[5])
    pose = points - points[0] + rng.normal(0, relative * bone, points.shape)
    return hand_from(pose @ Rotation.from_rotvec(rng.normal(0, turn, 3)).as_matrix().T, pixels)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.floats(0.02, 0.08))
def test_exact_without_noise(seed, length):
    points = world_hand(np.random.default_rng(seed), length / REFERENCE_LENGTH_M)
    placed = place(hand_from(points, CAMERA.project(points)), CAMERA, reference_length_m=length)
    # Lens distortion is undone by iteration, and this hand's palm is 0.1 per mille off the mean.
    np.testing.assert_allclose(placed.keypoints_m, points, atol=2e-3 * points[0, 2])
    assert placed.scale_source == ScaleSource.ASSUMED
    assert placed.scale_m == pytest.approx(length, rel=1e-3)
    assert placed.position_stddev_m >= REFERENCE_SPREAD * np.linalg.norm(points[0]) * 0.99


def test_distance_grows_with_the_reference_length():
    points = world_hand(np.random.default_rng(3))
    hand = hand_from(points, CAMERA.project(points))
    near, far = (place(hand, CAMERA, reference_length_m=length) for length in (0.03, 0.06))
    np.testing.assert_allclose(far.keypoints_m, 2 * near.keypoints_m)
    assert far.position_stddev_m == pytest.approx(2 * near.position_stddev_m)


@pytest.mark.parametrize(
    "spread, noise",
    [
        (REFERENCE_SPREAD, (0.01, 0.04, 0.04, 0.07)),
        (REFERENCE_SPREAD, (0.02, 0.08, 0.08, 0.14)),
        (CALIBRATED_SPREAD, (0.01, 0.04, 0.04, 0.07)),
        (CALIBRATED_SPREAD, (0.02, 0.08, 0.08, 0.14)),
    ],
)
def test_truth_lies_within_two_sigma(spread, noise):
    rng = np.random.default_rng(20260101)
    source = ScaleSource.ASSUMED if spread == REFERENCE_SPREAD else ScaleSource.CALIBRATED
    inside, ratio = [], []
    for _ in range(800):
        points = world_hand(rng, float(np.clip(rng.normal(1, spread), 0.6, 1.4)))
        placed = place(observed(rng, points, *noise), CAMERA, scale_source=source)
        error = np.linalg.norm(placed.keypoints_m[0] - points[0])
        assert placed.scale_source == source
        inside.append(error < 2 * placed.position_stddev_m)
        ratio.append(error / placed.position_stddev_m)
    assert 0.91 <= np.mean(inside) <= 0.99
    # Not by being vague: the typical error is a large part of what is stated.
    assert np.sqrt(np.mean(np.square(ratio))) > 0.75


def test_a_pixel_is_as_uncertain_at_the_edge_of_a_fisheye_as_in_the_middle():
    camera = Camera(286, 286, 424, 400, 848, 800, (-0.0046, 0.0398, -0.037, 0.0059), "equidistant")
    stated = []
    for degrees in (0, 60, 75):
        rng, found = np.random.default_rng(0), []
        ray = np.array([np.tan(np.radians(degrees)), 0.1, 1]) / np.hypot(np.tan(np.radians(degrees)), 1)
        for _ in range(20):
            points = keypoints_of(relaxed(rng))
            points = (points - points.mean(0)) * REFERENCE_LENGTH_M / bone_length(points)
            points = points @ rotation_to_ray(ray).T + 0.5 * ray
            pixels = camera.project(points) + rng.normal(0, 1.5, (21, 2))
            hand = HandPose.from_keypoints(Side.RIGHT, pixels, points)
            found.append(place(hand, camera, reference_length_stddev_m=0.0).position_stddev_m)
        stated.append(np.median(found))
    assert max(stated) < 2 * min(stated), stated


def test_a_palm_of_no_size_is_not_placed():
    points = world_hand(np.random.default_rng(0))
    hand = hand_from(points, CAMERA.project(points))
    flat = hand.keypoints_relative.copy()
    flat[[0, *FINGER_BASES]] = 0
    assert place(hand.replace(keypoints_relative=flat), CAMERA).keypoints_m is None


def test_the_palm_tells_the_size_where_the_reference_bone_is_wrong():
    points = world_hand(np.random.default_rng(4), distance=(0.5, 0.6))
    short = points.copy()
    short[6:9] += 0.2 * (points[5] - points[6])  # The bone is 20 % too short; all else would seem too large.
    placed = place(hand_from(short, CAMERA.project(points)), CAMERA)
    assert np.linalg.norm(placed.keypoints_m[0] - points[0]) < 0.03
    assert placed.scale_m == pytest.approx(0.8 * REFERENCE_LENGTH_M, rel=1e-3)
    assert reference_units(hand_from(short, short[:, :2]).keypoints_relative) == pytest.approx(1.25, rel=1e-3)


def test_outliers_and_hidden_keypoints_count_less():
    rng = np.random.default_rng(5)
    points = world_hand(rng, distance=(0.5, 0.6))
    pixels = CAMERA.project(points)
    wrong = pixels.copy()
    wrong[[4, 8, 12]] += [[80, -60], [-90, 20], [40, 90]]
    robust = place(hand_from(points, wrong), CAMERA)
    assert np.linalg.norm(robust.keypoints_m[0] - points[0]) < 0.03
    scores = np.full(21, 0.9)
    scores[[4, 8, 12]] = 0.05
    hidden = place(hand_from(points, wrong, keypoint_scores=scores), CAMERA)
    np.testing.assert_allclose(hidden.keypoints_m, points, atol=2e-3)


def depth_image(points: np.ndarray, background_m: float = 2.5) -> np.ndarray:
    """Depth of a hand of capsules before a wall."""
    image = np.full((480, 640), background_m, dtype=np.float32)
    discs = []
    for parent, child in BONES:
        radius = 0.015 if parent == 0 else 0.008
        for t in np.linspace(0, 1, 12):
            point = (1 - t) * points[parent] + t * points[child]
            discs.append((point[2] - radius, CAMERA.project(point[None])[0], radius * 500 / point[2]))
    for z, (u, v), radius in sorted(discs, key=lambda disc: -disc[0]):
        cv2.circle(image, (round(u), round(v)), max(1, round(radius)), float(z), -1)
    return image


def test_depth_finds_position_and_size():
    rng = np.random.default_rng(7)
    errors, inside, sizes, found = [], [], [], []
    for _ in range(150):
        size = float(np.clip(rng.normal(1, 0.15), 0.6, 1.5))
        points = world_hand(rng, size, distance=(0.4, 1.2))
        if np.any(np.abs(CAMERA.project(points) - [320, 240]) > [310, 230]):
            continue
        image = depth_image(points) + rng.normal(0, 0.003, (480, 640)).astype(np.float32)
        image[rng.random(image.shape) < 0.2] = 0  # Holes everywhere.
        image[cv2.Canny((image * 50).astype(np.uint8), 40, 80) > 0] = np.nan
        u = int(CAMERA.project(points)[:, 0].mean())
        image[:, u + 15 : u + 30] = points[0, 2] * 0.5  # A pole in front.
        placed = place(observed(rng, points, 0.015, 0.05, 0.08, 0.1), CAMERA, image)
        found.append(placed.scale_source == ScaleSource.DEPTH)
        if not found[-1]:
            continue
        error = np.linalg.norm(placed.keypoints_m[0] - points[0])
        errors.append(error)
        inside.append(error < 2 * placed.position_stddev_m)
        sizes.append(placed.scale_m / (size * REFERENCE_LENGTH_M))
    assert len(errors) > 60 and np.mean(found) > 0.95
    assert np.median(errors) < 0.02
    assert np.mean(inside) >= 0.9
    assert np.median(np.abs(np.log(sizes))) < 0.1


@pytest.mark.parametrize("image", [np.zeros((480, 640)), np.full((480, 640), np.nan), np.full((480, 640), 9.0)])
def test_depth_without_the_hand_falls_back(image):
    points = world_hand(np.random.default_rng(1), distance=(0.5, 0.6))
    hand = hand_from(points, CAMERA.project(points))
    assert place(hand, CAMERA, image).scale_source == ScaleSource.ASSUMED
    assert np.array_equal(place(hand, CAMERA, image).keypoints_m, place(hand, CAMERA).keypoints_m)


def test_integer_and_small_depth_images_do_not_raise():
    points = world_hand(np.random.default_rng(1), distance=(0.5, 0.6))
    hand = hand_from(points, CAMERA.project(points))
    assert place(hand, CAMERA, np.ones((3, 2), dtype=np.uint16)).keypoints_m is not None


def unplaced(hand) -> bool:
    return (
        hand.keypoints_m is None
        and hand.scale_source == ScaleSource.NONE
        and hand.scale_m == 0
        and np.isnan(hand.position_stddev_m)
    )


def test_nothing_is_claimed_without_a_camera_or_a_hand():
    points = world_hand(np.random.default_rng(2))
    hand = hand_from(points, CAMERA.project(points))
    assert unplaced(place(hand, None))
    assert unplaced(place(place(hand, CAMERA), None))
    bad = hand.keypoints_px.copy()
    bad[3] = np.nan
    assert unplaced(place(hand.replace(keypoints_px=bad), CAMERA))
    assert unplaced(place(hand.replace(keypoints_relative=np.full((21, 3), np.inf)), CAMERA))
    assert unplaced(place(hand.replace(keypoints_px=np.full((21, 2), 100.0)), CAMERA))
    # Image and pose mirrored against each other: only a hand behind the camera would look so.
    inverted = 2 * hand.keypoints_px.mean(axis=0) - hand.keypoints_px
    assert unplaced(place(hand.replace(keypoints_px=inverted), CAMERA))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0, 1e5),
    scores=st.sampled_from([0.0, 0.5, 1.0, float("nan")]),
)
def test_never_nan(seed, spread, scores):
    rng = np.random.default_rng(seed)
    points = world_hand(rng)
    hand = hand_from(points, rng.normal(300, spread, (21, 2)), keypoint_scores=np.full(21, scores))
    placed = place(hand, CAMERA, rng.random((48, 64)) if seed % 2 else None)
    if placed.keypoints_m is None:
        assert unplaced(placed)
    else:
        assert np.all(np.isfinite(placed.keypoints_m)) and np.all(placed.keypoints_m[:, 2] > 0)
        assert np.isfinite(placed.position_stddev_m) and placed.position_stddev_m > 0 and placed.scale_m > 0


def test_bad_arguments_are_refused():
    points = world_hand(np.random.default_rng(2))
    hand = hand_from(points, CAMERA.project(points))
    with pytest.raises(InvalidInputError, match="positive length"):
        place(hand, CAMERA, reference_length_m=0)
    with pytest.raises(InvalidInputError, match="ASSUMED or CALIBRATED"):
        place(hand, CAMERA, scale_source=ScaleSource.DEPTH)
    with pytest.raises(InvalidInputError, match="height, width"):
        place(hand, CAMERA, np.ones((4, 4, 1)))
