"""The pinch that grasping robots are told of: where, from which direction, how wide, and how sure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.grasping import grasp_of, keypoint_stddev_m
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.skeleton import INDEX_TIP, THUMB_TIP, WRIST

POINTS = keypoints_of({}) + [0.1, 0.2, 0.5]


def a_hand(points=POINTS, **fields):
    values = {
        "keypoints_m": points,
        "scale_source": ScaleSource.DEPTH,
        "position_stddev_m": 0.02,
        "keypoint_scores": np.full(21, 0.8),
    }
    return hand_from(points, points[:, :2]).replace(**{**values, **fields})


def test_it_lies_between_the_fingertips_and_looks_away_from_the_wrist():
    grasp = grasp_of(a_hand())
    thumb, index = POINTS[THUMB_TIP], POINTS[INDEX_TIP]
    assert grasp.point_m == pytest.approx((thumb + index) / 2)
    assert grasp.opening_m == pytest.approx(np.linalg.norm(index - thumb))
    approach, closing, _ = grasp.rotation.T
    assert np.cross(approach, grasp.point_m - POINTS[WRIST]) == pytest.approx(np.zeros(3), abs=1e-9)
    assert approach @ (grasp.point_m - POINTS[WRIST]) > 0 and closing @ (index - thumb) > 0
    assert grasp.rotation.T @ grasp.rotation == pytest.approx(np.eye(3)) and np.linalg.det(grasp.rotation) > 0


def test_in_another_frame_it_is_the_grasp_of_the_hand_there():
    turn, shift = Rotation.from_rotvec([0.3, -0.5, 1.1]).as_matrix(), np.array([0.4, -0.2, 0.9])
    moved, there = grasp_of(a_hand()).moved(turn, shift), grasp_of(a_hand(POINTS @ turn.T + shift))
    assert moved.point_m == pytest.approx(there.point_m) and moved.rotation == pytest.approx(there.rotation)
    before, after = grasp_of(a_hand()).covariance()[3:, 3:], moved.covariance()[3:, 3:]
    assert after == pytest.approx(turn @ before @ turn.T)


def test_deviations_are_those_of_the_distance_and_of_the_scores():
    sure, unsure = grasp_of(a_hand()), grasp_of(a_hand(keypoint_scores=np.full(21, 0.2)))
    far = grasp_of(a_hand(position_stddev_m=0.1))
    for name in ("point_stddev_m", "opening_stddev_m", "approach_stddev_rad", "roll_stddev_rad"):
        assert 0 < getattr(sure, name) < getattr(unsure, name), name
    assert far.point_stddev_m > 0.1 / 3**0.5  # of an axis
    assert np.trace(far.covariance()[:3, :3]) < 1.5 * 0.1**2
    assert far.opening_stddev_m > sure.opening_stddev_m
    assert far.approach_stddev_rad == sure.approach_stddev_rad  # a wrong distance turns nothing
    assert np.linalg.eigvalsh(sure.covariance()).min() > 0 and (unsure.score, sure.score) == (0.2, 0.8)


def test_a_score_is_the_share_of_errors_below_a_tenth_of_the_hand():
    stddev = float(keypoint_stddev_m(np.array(0.6), 0.2))
    errors = np.linalg.norm(np.random.default_rng(0).normal(scale=stddev, size=(100_000, 2)), axis=1)
    assert (errors < 0.02).mean() == pytest.approx(0.6, abs=0.01)


def test_a_closed_pinch_has_a_place_but_no_roll():
    points = POINTS.copy()
    points[THUMB_TIP] = points[INDEX_TIP]
    grasp = grasp_of(a_hand(points))
    assert grasp.opening_m == 0 and grasp.roll_stddev_rad == pytest.approx(np.pi)
    assert grasp.rotation.T @ grasp.rotation == pytest.approx(np.eye(3))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scale_source": ScaleSource.NONE}, "no metric scale"),
        ({"keypoints_m": POINTS * np.nan}, "not finite"),
        ({"keypoints_m": POINTS * 1e4}, "m away"),
        ({"keypoints_m": np.ones((21, 3))}, "on the wrist"),
    ],
)
def test_hands_without_plausible_metres_are_refused_in_words(fields, says):
    with pytest.raises(InvalidInputError, match=says):
        grasp_of(a_hand(**fields))
