"""Calibration of a hand's size."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d.calibration import PALM, HandCalibration
from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose, ScaleSource

CAMERA = Camera(600, 600, 320, 240, 640, 480)
OPEN = {f"{finger}_pip_flexion": 0.1 for finger in ("index", "middle", "ring", "little")}


def shown(angles: dict[str, float], size: float = 1.0, tilt: float = 0.0, distance: float = 0.5, **fields) -> HandPose:
    """A hand whose back faces the camera, palm at `distance`."""
    back = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    points = size * keypoints_of(angles) @ (Rotation.from_euler("x", tilt).as_matrix() @ back).T
    points = points + [0, 0.05, distance - points[list(PALM), 2].mean()]
    return hand_from(points, CAMERA.project(points), **fields)


@pytest.mark.parametrize("size", [0.7, 1.0, 1.2])
def test_known_distance_gives_the_length(size):
    calibration = HandCalibration(distance_m=0.5)
    rng = np.random.default_rng(0)
    results = []
    for frame in range(70):
        hand = shown(OPEN, size, tilt=0.3)
        hand = hand.replace(keypoints_px=hand.keypoints_px + rng.normal(0, 1, (21, 2)))
        results.append(calibration.add(hand, frame / 30, CAMERA))
    (found,) = [r for r in results if r]
    assert results.index(found) == 60  # Two seconds.
    assert abs(found.reference_length_m - 0.042 * size) < 2 * found.reference_length_stddev_m
    assert found.reference_length_m == pytest.approx(0.042 * size, rel=0.03)


def test_depth_gives_the_length():
    calibration = HandCalibration(duration_s=1.0)
    hand = shown(OPEN)
    assert calibration.add(hand, 0.0) is None and "depth" in calibration.hint
    for frame in range(31):
        result = calibration.add(hand.replace(scale_source=ScaleSource.DEPTH, scale_m=0.039), frame / 30)
    assert result.reference_length_m == pytest.approx(0.039, rel=1e-3) and result.samples == 31


@pytest.mark.parametrize(
    "hand, camera, hint",
    [
        (shown({"index_pip_flexion": 1.2}), CAMERA, "open the hand"),
        (shown(OPEN, tilt=1.2), CAMERA, "turn the palm"),
        (shown(OPEN), None, "calibrated camera"),
    ],
)
def test_what_is_missing_is_said(hand, camera, hint):
    calibration = HandCalibration(distance_m=0.5)
    for frame in range(90):
        assert calibration.add(hand, frame / 30, camera) is None
    assert hint in calibration.hint and calibration.progress == 0


def test_gaps_other_hands_and_motion_start_again():
    calibration = HandCalibration(distance_m=0.5)
    for frame in range(50):
        calibration.add(shown(OPEN), frame / 30, CAMERA)
    assert calibration.progress > 0.8
    calibration.add(shown(OPEN, track_id=2), 50 / 30, CAMERA)
    assert calibration.progress == 0
    calibration.add(shown(OPEN, track_id=2), 51 / 30, CAMERA)
    assert calibration.progress > 0
    calibration.add(shown(OPEN, track_id=2), 10.0, CAMERA)
    assert calibration.progress == 0 and "8.3 s apart, which is too rare" in calibration.hint
    for frame in range(1, 61):
        hand = shown(OPEN, track_id=2, distance=0.3 + 0.01 * frame)
        assert calibration.add(hand, 10 + frame / 30, CAMERA) is None
    assert "do not agree" in calibration.hint


def test_a_hand_that_is_still_half_the_time_is_not_measured():
    calibration = HandCalibration(distance_m=0.5)
    for frame in range(61):
        distance = 0.5 if frame % 2 else 0.3 + 0.01 * frame
        assert calibration.add(shown(OPEN, distance=distance), frame / 30, CAMERA) is None
    assert "do not agree" in calibration.hint
    calibration.add(shown(OPEN), 61 / 30, CAMERA)
    assert "do not agree" in calibration.hint  # said as long as it tries again


def test_bad_arguments_are_refused():
    with pytest.raises(InvalidInputError, match="distance_m must be a positive"):
        HandCalibration(distance_m=-1)
