"""Windows turn, move and grow with the hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_hand import UPRIGHT, turned

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.windows import crop_from_pose, crop_upright, fits, hand_angle


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


ANGLES = st.floats(-3.1, 3.1)


@settings(max_examples=50)
@given(angle=ANGLES, turn=ANGLES, scale=st.floats(0.2, 20))
def test_angle_turns_with_the_hand_and_changes_its_sign_in_a_mirror(angle, turn, scale):
    hand = turned(UPRIGHT, angle) * scale
    further = hand_angle(turned(hand, turn)) - hand_angle(hand) - turn
    assert math.remainder(further, 2 * math.pi) == pytest.approx(0, abs=1e-6)
    mirrored = hand_angle(hand * [-1, 1]) + hand_angle(hand)
    assert math.remainder(mirrored, 2 * math.pi) == pytest.approx(0, abs=1e-6)


def test_angles_of_many_hands_are_those_of_each():
    hands = np.stack([turned(UPRIGHT, a) for a in (0.0, 1.0, -2.0)]).reshape(3, 1, 21, 2)
    assert hand_angle(hands).shape == (3, 1)
    np.testing.assert_allclose(hand_angle(hands)[:, 0], [0, 1, -2], atol=1e-12)


@given(angle=ANGLES)
def test_an_upright_window_holds_the_box_of_the_keypoints(angle):
    keypoints = turned(UPRIGHT, angle) + [300, 200]
    crop = crop_upright(keypoints, 256, 1.25)
    assert (crop.angle, crop.size) == (0.0, 256)
    inside = crop.to_crop(keypoints)
    assert np.ptp(inside, axis=0).max() == pytest.approx(256 / 1.25)
    assert (inside.max(axis=0) + inside.min(axis=0)) / 2 == pytest.approx([127.5, 127.5])


@given(angle=ANGLES, side=st.floats(5, 1000), turns=st.integers(-3, 3))
def test_a_window_fits_itself_however_its_angle_is_written(angle, side, turns):
    crop = Crop((100.0, 50.0), side, 160, angle)
    assert fits(crop, Crop((100.0, 50.0), side, 160, angle + 2 * math.pi * turns))


@pytest.mark.parametrize(
    "shift, ratio, turn, enough",
    [
        (0.1, 1.0, 0.0, True),
        (0.2, 1.0, 0.0, False),
        (0.0, 1.3, 0.0, True),
        (0.0, 1 / 1.3, 0.0, True),
        (0.0, 1.5, 0.0, False),
        (0.0, 1 / 1.5, 0.0, False),
        (0.0, 1.0, 0.35, True),
        (0.0, 1.0, -0.5, False),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_window_fits_if_it_is_near_in_place_size_and_angle(shift, ratio, turn, enough, scale):
    better = Crop((40.0, 70.0), 20 * scale, 160, math.pi - 0.1)
    crop = Crop((40.0 + shift * better.side, 70.0), 20 * scale * ratio, 160, better.angle + turn)
    assert fits(crop, better) == enough
