"""Joint angles against forward kinematics, and their invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of, relaxed

from hand_pose_3d import joints
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import DegenerateHandError
from hand_pose_3d.joints import JOINT_LIMITS, JOINT_NAMES, joint_angles
from hand_pose_3d.skeleton import Side

seeds = st.integers(0, 2**32 - 1)
sides = st.sampled_from([Side.LEFT, Side.RIGHT])


def hand_of(points: np.ndarray, side: Side = Side.RIGHT):
    return hand_from(points, points[:, :2], side)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, side=sides)
def test_angles_of_forward_kinematics_are_found_again(seed, side):
    rng = np.random.default_rng(seed)
    given_angles = {name: 0.9 * rng.uniform(JOINT_LIMITS[name][0], JOINT_LIMITS[name][1]) for name in JOINT_NAMES}
    points = keypoints_of(given_angles, side)
    turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    found = joint_angles(hand_of(points @ turn.T * rng.uniform(0.5, 2) + rng.normal(size=3), side))
    assert tuple(found) == JOINT_NAMES
    assert found == pytest.approx(given_angles, abs=1e-7)


def test_zero_pose_and_signs():
    flat = joint_angles(hand_of(keypoints_of({})))
    assert flat == pytest.approx(dict.fromkeys(JOINT_NAMES, 0.0), abs=1e-9)

    def moved(name: str) -> np.ndarray:
        return keypoints_of({name: 0.3}) - keypoints_of({})

    # Right hand: x to the fingers, y to the thumb, z out of the back.
    for name in JOINT_NAMES:
        if name.endswith("_flexion") and not name.startswith("thumb"):
            assert moved(name)[:, 2].min() < -1e-3, name
    assert moved("index_mcp_abduction")[8, 1] > 0 > moved("little_mcp_abduction")[20, 1]
    assert moved("ring_mcp_abduction")[16, 1] < 0 < moved("middle_mcp_abduction")[12, 1]
    assert moved("thumb_cmc_flexion")[4, 1] < 0
    assert moved("thumb_cmc_abduction")[4, 2] < 0
    assert moved("thumb_ip_flexion")[4, 1] < 0 and moved("thumb_ip_flexion")[4, 2] < 0


@settings(max_examples=60, deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_a_mirrored_hand_of_the_other_side_has_the_same_angles(seed, scale):
    rng = np.random.default_rng(seed)
    points = keypoints_of(relaxed(rng)) + rng.normal(0, 0.004, (21, 3))
    angles = joint_angles(hand_of(points))
    mirror = np.eye(3) - 2 * np.outer(n := rng.normal(size=3), n) / (n @ n)
    assert joint_angles(hand_of(scale * points @ mirror + 3, Side.LEFT)) == pytest.approx(angles, abs=1e-7)
    assert joint_angles(hand_of(points, Side.UNKNOWN)) == angles


def test_the_thumbs_bend_is_whole_whatever_its_roll():
    points = keypoints_of({"thumb_ip_flexion": 0.7})
    axis = points[3] - points[2]
    for roll in (-0.6, 0.6):
        turn = Rotation.from_rotvec(roll * axis / np.linalg.norm(axis)).as_matrix()
        rolled = points.copy()
        rolled[4] = points[3] + turn @ (points[4] - points[3])
        assert joint_angles(hand_of(rolled))["thumb_ip_flexion"] == pytest.approx(0.7)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, noise=st.floats(0, 0.03))
def test_clamped_angles_keep_to_the_limits_and_leave_the_rest(seed, noise):
    rng = np.random.default_rng(seed)
    hand = hand_of(keypoints_of(relaxed(rng)) + rng.normal(0, noise, (21, 3)))
    free, kept = joint_angles(hand), joint_angles(hand, clamp=True)
    for name, angle in kept.items():
        low, high = JOINT_LIMITS[name]
        assert low <= angle <= high
        assert angle == free[name] or not low <= free[name] <= high


def test_a_joint_bent_beyond_180_degrees_is_kept_to_the_nearer_limit():
    low, high = JOINT_LIMITS["index_pip_flexion"]
    assert joints._limited(np.pi - 0.1, low, high) == joints._limited(0.1 - np.pi, low, high) == high
    assert joints._limited(low - 0.1, low, high) == low


def test_what_has_no_angles_is_refused():
    points = keypoints_of({})
    hand = hand_of(points)
    broken = hand.keypoints_relative.copy()
    broken[7] = np.nan
    with pytest.raises(InvalidInputError, match="finite"):
        joint_angles(hand.replace(keypoints_relative=broken))
    with pytest.raises(DegenerateHandError):
        joint_angles(hand.replace(keypoints_relative=np.outer(np.arange(21), [1.0, 0, 0])))
    short = hand.keypoints_relative.copy()
    short[8] = short[7]
    assert joint_angles(hand.replace(keypoints_relative=short))["index_dip_flexion"] == 0
