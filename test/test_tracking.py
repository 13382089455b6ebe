"""Crops from poses, identities over time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.tracking import crop_from_pose, hand_angle

UPRIGHT = np.array(
    [[0, 0]]
    + [[-20 - 8 * k, -20 - 12 * k] for k in range(4)]
    + [[x, -60 - 15 * k] for x in (-15, 0, 12, 24) for k in range(4)],
    dtype=float,
)


def turned(keypoints: np.ndarray, angle: float) -> np.ndarray:
    """Keypoints turned clockwise (v points down) about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return keypoints @ np.array([[c, -s], [s, c]]).T


@settings(max_examples=50, deadline=None)
@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.2, 20),
    shift=st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
)
def test_crop_turns_with_the_hand(angle, scale, shift):
    keypoints = turned(UPRIGHT, angle) * scale + shift
    crop = crop_from_pose(keypoints, size=128, margin=1.5)
    inside = crop.to_crop(keypoints)
    assert crop.angle == pytest.approx(angle, abs=1e-9)
    assert crop.side == pytest.approx(1.5 * 105 * scale)
    up = inside[9] - inside[0]
    assert up[0] == pytest.approx(0, abs=1e-6) and up[1] < 0
    # The larger extent is 1/margin of the window and in its middle.
    assert np.max(np.ptp(inside, axis=0)) == pytest.approx(128 / 1.5)
    assert (inside.max(axis=0) + inside.min(axis=0)) / 2 == pytest.approx([63.5, 63.5])


def test_angle_of_a_hand_seen_end_on():
    end_on = UPRIGHT.copy()
    end_on[9] = [1, 1]  # The middle finger's base hides the wrist: the other bases decide.
    assert hand_angle(end_on) == pytest.approx(np.arctan2(22 / 4, 179 / 4))
    end_on[[5, 9, 13, 17]] = [[-1, 1], [1, 1], [1, -1], [0, 0]]
    assert hand_angle(end_on) == 0.0


def test_crop_refuses_what_is_not_a_hand():
    with pytest.raises(InvalidInputError, match="finite"):
        crop_from_pose(np.full((21, 2), np.nan), 128, 1.5)
    assert crop_from_pose(np.zeros((21, 2)), 128, 1.5).side == 1.0
