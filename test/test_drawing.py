"""Skeletons on images."""

import numpy as np
import pytest

from hand_pose_3d.drawing import FINGER_COLOURS, LOW_SCORE, draw_hands, draw_skeleton, keypoint_colour
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import KEYPOINT_NAMES, Side


def open_hand(width=640, height=480, scores=None, side=Side.LEFT, **changes):
    """An open hand with its wrist at the bottom, in front of an untextured wall."""
    fingers = np.linspace(-0.9, 0.9, 5)
    reach = np.array([0.35, 0.55, 0.7, 0.85])
    points = [np.zeros(2)] + [r * np.array([np.sin(a), -np.cos(a)]) for a in fingers for r in reach]
    pixels = np.array(points) * 0.8 * height + [width / 2, 0.9 * height]
    metric = np.column_stack([pixels / 1000, 0.4 + 0.01 * np.sin(np.arange(21))])
    low, high = pixels.min(0) - 5, pixels.max(0) + 5
    scores = np.ones(21) if scores is None else scores
    made = HandPose.from_keypoints(side, pixels, metric, side_score=0.9, score=0.8, keypoint_scores=scores)
    return made.replace(**{"roi_px": (*low, *(high - low)), **changes})


def pixel(image, point):
    u, v = np.round(point).astype(int)
    return image[v, u].astype(int)


def test_bones_have_their_fingers_colours_and_the_input_is_kept():
    image = np.full((480, 640, 3), 128, np.uint8)
    hand = open_hand()
    drawn = draw_hands(image, [hand])
    assert (image == 128).all()
    for finger, name in enumerate(("thumb_mcp", "index_pip", "middle_pip", "ring_pip", "little_pip")):
        k = KEYPOINT_NAMES.index(name)
        middle = 0.5 * (hand.keypoints_px[k] + hand.keypoints_px[k + 1])
        assert np.abs(pixel(drawn, middle) - FINGER_COLOURS[finger]).max() < 12
        assert keypoint_colour(k) == FINGER_COLOURS[finger]
    assert len(set(FINGER_COLOURS)) == 5


def test_low_scores_are_faint():
    scores = np.ones(21)
    scores[17:] = LOW_SCORE - 0.1
    hand = open_hand(scores=scores)
    drawn = draw_hands(np.full((480, 640, 3), 128, np.uint8), [hand])
    difference = [
        np.abs(pixel(drawn, 0.5 * (hand.keypoints_px[k] + hand.keypoints_px[k + 1])) - 128).sum() for k in (14, 18)
    ]
    assert 0 < difference[1] < 0.6 * difference[0]
    joint = hand.keypoints_px[19]
    certain = draw_hands(np.full((480, 640, 3), 128, np.uint8), [open_hand()])
    assert not np.array_equal(pixel(certain, joint), pixel(drawn, joint))


def test_lines_grow_with_the_hand():
    def share(size):
        image = np.zeros((size, size, 3), np.uint8)
        hand = open_hand(size, size)
        draw_skeleton(image, hand.keypoints_px)
        return (image.sum(-1) > 300).mean()

    assert share(512) < 1.5 * share(1024)  # twice the share if lines did not grow


def test_nearer_bones_cover_farther_ones():
    pixels = np.full((21, 2), np.nan)
    pixels[5], pixels[6] = (20, 100), (180, 100)  # index: across
    pixels[9], pixels[10] = (100, 20), (100, 180)  # middle: down, crossing it
    for nearer, farther, colour in ((5, 9, FINGER_COLOURS[1]), (9, 5, FINGER_COLOURS[2])):
        image = np.zeros((200, 200, 3), np.uint8)
        depths = np.zeros(21)
        depths[farther : farther + 2] = 1.0
        draw_skeleton(image, pixels, depths=depths)
        np.testing.assert_array_equal(pixel(image, (100, 100)), colour)
        assert nearer != farther


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (480, 640)])
def test_hands_outside_or_without_numbers_do_no_harm(size):
    image = np.zeros((*size, 3), np.uint8)
    far = open_hand(keypoints_px=np.full((21, 2), 1e9), roi_px=(1e9, 1e9, 5.0, 5.0))
    nan = open_hand(keypoints_px=np.full((21, 2), np.nan), roi_px=(float("nan"),) * 4)
    assert (draw_hands(image, [far, nan]) == 0).all()
    assert draw_hands(image, [open_hand(size[1], size[0])]).shape == image.shape


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_other_images_are_refused(image):
    with pytest.raises(InvalidInputError, match="RGB"):
        draw_hands(image, [])
