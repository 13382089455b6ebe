"""One Euro filters: fixed points, equivariance, honesty to stamps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of, relaxed

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import bone_length, from_canonical
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.skeleton import Side
from hand_pose_3d.smoothing import HandSmoother, OneEuro, OneEuroRotation, SmoothingConfig

seeds = st.integers(0, 2**32 - 1)


def stamps_of(rng: np.random.Generator, count: int) -> np.ndarray:
    return 5.0 + np.cumsum(rng.uniform(0.005, 0.08, count))


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_stays_inside_what_was_seen_and_moves_with_the_origin(seed):
    rng = np.random.default_rng(seed)
    values, stamps, shift = rng.normal(0, 1, (30, 4, 2)), stamps_of(rng, 30), rng.normal(0, 50, 2)
    one, other, turned = (OneEuro(1.0, 0.5) for _ in range(3))
    turn = Rotation.from_euler("z", rng.uniform(-3, 3)).as_matrix()[:2, :2]
    for i, (value, stamp) in enumerate(zip(values, stamps, strict=True)):
        out = one(value, stamp)
        np.testing.assert_allclose(other(value + shift, stamp), out + shift, atol=1e-9)
        np.testing.assert_allclose(turned(value @ turn.T, stamp), out @ turn.T, atol=1e-9)
        assert np.all(out >= values[: i + 1].min(axis=0) - 1e-9) and np.all(out <= values[: i + 1].max(axis=0) + 1e-9)


def test_a_still_hand_is_steadier_and_a_moving_one_not_late():
    rng = np.random.default_rng(0)
    stamps = np.arange(300) / 30
    noise = rng.normal(0, 1, (300, 1))
    one = OneEuro(1.2, 0.05)
    still = np.array([one(n, t) for n, t in zip(noise, stamps, strict=True)])
    assert still[30:].std() < 0.45
    speed = 300.0
    adaptive, fixed = OneEuro(1.2, 0.05), OneEuro(1.2, 0.0)
    lag = {}
    for name, filter_ in (("adaptive", adaptive), ("fixed", fixed)):
        out = np.array([filter_(np.array([speed * t]), t)[0] for t in stamps])
        lag[name] = (speed * stamps[-1] - out[-1]) / speed
    # First order, discrete: the lag of a ramp is (1 - a) / a frames, that is 1 / (2 pi f).
    assert lag["fixed"] == pytest.approx(1 / (2 * np.pi * 1.2), rel=1e-3)
    assert lag["adaptive"] < 0.2 * lag["fixed"]


def test_the_response_depends_on_time_not_on_frames():
    for dt in (1 / 120, 1 / 60, 1 / 15):
        one = OneEuro(1.0, 0.0)
        one(np.array([0.0]), 0.0)
        for k in range(1, round(1 / dt) + 1):
            out = one(np.array([1.0]), k * dt)
        assert out[0] == pytest.approx(1 - np.exp(-2 * np.pi * 1.0), abs=0.02)


def test_repeated_stamp_holds_and_gap_or_backward_stamp_restarts():
    one = OneEuro(0.5, 0.0, max_gap_s=0.3)
    one(np.array([0.0]), 1.0)
    held = one(np.array([10.0]), 1.1)
    assert 0 < held[0] < 10
    assert one(np.array([99.0]), 1.1) == held
    assert one(np.array([5.0]), 0.9) == 5.0
    assert one(np.array([7.0]), 1.3) == 7.0
    assert one(np.array([[1.0, 2.0]]), 1.31) == pytest.approx(np.array([[1.0, 2.0]]))
    assert np.isnan(one(np.array([[np.nan, 2.0]]), 1.32)).any()
    assert one(np.array([[3.0, 2.0]]), 1.33) == pytest.approx(np.array([[3.0, 2.0]]))


def test_a_hand_with_the_stamp_of_the_last_one_is_not_held_back():
    smoother, rng = HandSmoother(), np.random.default_rng(0)
    hands = [hand_from(points, points[:, :2] * 900 + 300) for points in (keypoints_of(relaxed(rng)) for _ in range(2))]
    for stamp in (1.0, 1.03):
        smoother(hands[0], stamp)
    assert smoother(hands[1], 1.03) is hands[1]
    later = smoother(hands[1], 1.06)
    assert later is not hands[1] and not np.allclose(later.keypoints_px, hands[1].keypoints_px)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_rotations_stay_rotations_and_follow_a_change_of_frame(seed):
    rng = np.random.default_rng(seed)
    left, right = (Rotation.from_quat(rng.normal(size=4)).as_matrix() for _ in range(2))
    one, other = OneEuroRotation(1.0, 0.5), OneEuroRotation(1.0, 0.5)
    rotation = Rotation.from_quat(rng.normal(size=4))
    for stamp in stamps_of(rng, 15):
        rotation = Rotation.from_rotvec(rng.normal(0, 0.3, 3)) * rotation
        out = one(rotation.as_matrix(), stamp)
        np.testing.assert_allclose(out @ out.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(out) > 0
        np.testing.assert_allclose(other(left @ rotation.as_matrix() @ right, stamp), left @ out @ right, atol=1e-7)


def test_rotation_takes_the_shortest_arc_through_half_a_turn():
    one = OneEuroRotation(1.0, 0.0)
    one(Rotation.from_euler("y", 170, degrees=True).as_matrix(), 0.0)
    out = one(Rotation.from_euler("y", -170, degrees=True).as_matrix(), 0.05)
    angle = Rotation.from_matrix(out).magnitude()
    assert np.degrees(angle) > 170


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_smoothed_hand_is_still_a_hand(seed):
    rng = np.random.default_rng(seed)
    smoother = HandSmoother()
    for stamp in stamps_of(rng, 10):
        points = keypoints_of(relaxed(rng)) @ Rotation.from_quat(rng.normal(size=4)).as_matrix().T
        hand = hand_from(points, points[:, :2] * 900 + 300).replace(
            keypoints_m=points + [0, 0, 0.5], scale_m=0.042, scale_source=ScaleSource.ASSUMED
        )
        out = smoother(hand, stamp)
        assert bone_length(out.keypoints_relative) == pytest.approx(1)
        rebuilt = from_canonical(out.keypoints_canonical, out.rotation_camera_canonical)
        np.testing.assert_allclose(out.keypoints_relative, rebuilt, atol=1e-9)
        shape = (out.keypoints_m - out.keypoints_m[0]) / out.scale_m
        np.testing.assert_allclose(shape, out.keypoints_relative, atol=1e-9)
        np.testing.assert_allclose(out.roi_px[2:], hand.roi_px[2:])


def test_switched_off_or_first_it_hands_through():
    hand = hand_from(keypoints_of({}), keypoints_of({})[:, :2])
    assert HandSmoother(SmoothingConfig(enabled=False))(hand, 0.0) is hand
    out = HandSmoother()(hand, 0.0)
    np.testing.assert_allclose(out.keypoints_px, hand.keypoints_px)
    np.testing.assert_allclose(out.keypoints_relative, hand.keypoints_relative, atol=1e-12)


def test_depth_that_comes_restarts_the_position():
    smoother = HandSmoother()
    points = keypoints_of({})
    hand = hand_from(points, points[:, :2] * 900 + 300)
    far = hand.replace(keypoints_m=points + [0, 0, 0.8], scale_m=0.042, scale_source=ScaleSource.ASSUMED)
    near = hand.replace(keypoints_m=points + [0, 0, 0.6], scale_m=0.035, scale_source=ScaleSource.DEPTH)
    smoother(far, 0.0)
    out = smoother(near, 0.03)
    assert out.keypoints_m[0, 2] == pytest.approx(0.6) and out.scale_m == pytest.approx(0.035)
    assert smoother(hand, 0.06).keypoints_m is None


def test_a_still_hand_is_steady_by_either_source_of_metres_while_depth_comes_for_every_second_image():
    rng, smoother, points = np.random.default_rng(3), HandSmoother(), keypoints_of({})
    hand = hand_from(points, points[:, :2] * 900 + 300)
    sources = {ScaleSource.ASSUMED: 0.8, ScaleSource.DEPTH: 0.6}
    given, told = ({source: [] for source in sources} for _ in range(2))
    for number in range(120):
        source = (ScaleSource.ASSUMED, ScaleSource.DEPTH)[number % 2]
        place = points + [0, 0, sources[source] * np.exp(rng.normal(0, 0.02))]
        out = smoother(hand.replace(keypoints_m=place, scale_m=0.04, scale_source=source), number / 30)
        assert out.scale_source == source
        given[source].append(place[0, 2])
        told[source].append(out.keypoints_m[0, 2])
    for source, distance in sources.items():
        assert np.std(told[source][10:]) < 0.6 * np.std(given[source][10:])
        assert np.mean(told[source][10:]) == pytest.approx(distance, rel=0.02)


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidInputError, match="min_cutoff_hz must be a positive"):
        SmoothingConfig(min_cutoff_hz=0)
    with pytest.raises(InvalidInputError, match="beta_px must be zero or"):
        SmoothingConfig(beta_px=float("nan"))


def test_a_hand_behind_the_camera_keeps_its_metres():
    points = keypoints_of({}) - [0.0, 0.0, 0.5]
    hand = hand_from(points, 500 * points[:, :2]).replace(keypoints_m=points, scale_source=ScaleSource.CALIBRATED)
    smoother = HandSmoother()
    for stamp in (0.0, 0.1):
        assert np.array_equal(smoother(hand, stamp).keypoints_m, points)


def test_a_palm_keeps_its_size_while_the_fingers_move():
    """A mean of two directions is shorter than either; the hand must not grow by that."""
    smoother, ratios = HandSmoother(), []
    towards = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1.0]])
    for frame in range(60):
        closed = 0.5 - 0.5 * math.cos(2 * math.pi * 2 * frame / 30)
        bent = {f"{finger}_mcp_flexion": 1.4 * closed for finger in ("index", "middle", "ring", "little")}
        points = keypoints_of(bent, Side.RIGHT) @ towards.T + [0, 0, 0.5]
        hand = HandPose.from_keypoints(
            Side.RIGHT,
            points[:, :2] / points[:, 2:] * 600 + [320, 240],
            points,
            keypoints_m=points,
            scale_m=float(bone_length(points)),
            scale_source=ScaleSource.DEPTH,
        )
        smooth = smoother(hand, frame / 30)
        ratios.append(math.dist(*smooth.keypoints_m[[0, 9]]) / math.dist(*points[[0, 9]]))
        assert smooth.scale_m * math.dist(*smooth.keypoints_relative[[0, 9]]) == pytest.approx(
            math.dist(*smooth.keypoints_m[[0, 9]])
        )
    assert max(np.abs(np.array(ratios) - 1)) < 1e-6
