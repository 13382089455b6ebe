"""Regions and the paper's crop rules, on masks whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from hand_pose_3d.segmentation import HandMask, cover, grow_region, hand_regions, paper_crop


def probability(*rectangles, size=(240, 320)):
    """Map with rectangles (x, y, width, height, value) over a background of 0.1."""
    image = np.full(size, 0.1)
    for x, y, width, height, value in rectangles:
        image[y : y + height, x : x + width] = value
    return image


def test_two_hands_give_two_boxes_the_larger_first():
    regions = hand_regions(probability((10, 20, 30, 40, 0.9), (200, 100, 60, 50, 0.8)))
    assert [r.box for r in regions] == [(200, 100, 60, 50), (10, 20, 30, 40)]
    assert [r.area_px for r in regions] == [3000, 1200]
    assert [r.score for r in regions] == pytest.approx([0.8, 0.9])


def test_number_and_size_of_regions_are_limited():
    image = probability((10, 20, 30, 40, 0.9), (200, 100, 60, 50, 0.8), (100, 200, 2, 3, 0.99))
    assert len(hand_regions(image, max_hands=1)) == 1
    assert len(hand_regions(image, max_hands=5)) == 2
    assert len(hand_regions(image, max_hands=5, min_area_px=6)) == 3
    assert hand_regions(image, threshold=0.995) == []
    assert hand_regions(np.zeros((8, 8))) == []


@pytest.mark.parametrize("gap, count", [(9, 1), (10, 2)])
def test_gaps_up_to_the_reach_are_bridged(gap, count):
    # Nine empty columns: the pixels on both sides are ten apart.
    image = probability((20, 20, 30, 30, 0.9), (50 + gap, 20, 30, 30, 0.9))
    assert len(hand_regions(image)) == count
    assert grow_region(image)[25, 60 + gap] == (count == 1)


def flat_hand(x, y, size):
    """(21, 2) pixels of an open hand whose wrist is at (x, y), fingers up."""
    fingers = np.arange(5)[:, None] * 0.2 - 0.4, np.array([0.45, 0.65, 0.85, 1.0])
    joints = np.stack([np.repeat(fingers[0], 4, axis=1), -np.repeat(fingers[1][None], 5, axis=0)], axis=-1)
    return np.vstack([[0, 0], joints.reshape(-1, 2)]) * size + [x, y]


def test_what_known_hands_leave_of_a_region_is_another_region():
    first, second = flat_hand(100, 160, 80), flat_hand(170, 170, 80)
    both = cover([first, second], (240, 320), (1, 1)) * 0.9
    far = probability((280, 10, 20, 20, 0.8))
    mask = HandMask(np.maximum(both, far), (640, 480), (2.0, 2.0), reach=1)

    together, alone = mask.regions(3)
    assert together.box[2] > 2 * (170 - 100) + 80 and alone.box == (560, 20, 40, 40)
    beside, same = mask.regions(3, [2 * first])
    high = 2 * second.max(0)
    x, y, w, h = beside.box
    assert abs(x + w - high[0]) < 40 and abs(y + h - high[1]) < 40 and x > 2 * 100 and beside.area_px < together.area_px
    assert same == alone  # a region of its own is not measured by what the hand took
    assert mask.regions(3, [2 * first, 2 * second]) == [alone]


def test_scraps_beside_a_known_hand_are_no_region():
    hand = flat_hand(100, 160, 80)
    broad = cover([hand], (240, 320), (1, 1)) * 0.9
    broad[165:185, 80:125] = 0.9  # some of the wrist
    assert len(hand_regions(broad, reach_px=1)) == 1
    assert hand_regions(broad, reach_px=1, covered=cover([hand], (240, 320), (1, 1))) == []


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_regions_and_growth_are_chains_of_steps_of_ten_pixels(seed):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random((60, 80)) < 0.01, rng.uniform(0.55, 1, (60, 80)), 0.2)
    image[30, 40] = 1.0
    pixels = np.argwhere(image > 0.5)
    near = np.abs(pixels[:, None] - pixels[None]).max(-1) <= 10

    count, labels = connected_components(near)
    areas = sorted(r.area_px for r in hand_regions(image, max_hands=count + 1, min_area_px=1))
    assert areas == sorted(np.bincount(labels))

    reached = (pixels == [30, 40]).all(1)
    for _ in range(80 // 10):
        reached = near[reached].any(0)
    expected = np.zeros(image.shape, bool)
    expected[tuple(pixels[reached].T)] = True
    np.testing.assert_array_equal(grow_region(image), expected)


def test_growing_keeps_the_object_with_the_most_probable_pixel():
    grown = grow_region(probability((10, 20, 30, 40, 0.9), (200, 100, 60, 50, 0.8)))
    assert grown.sum() == 1200
    assert grown[20:60, 10:40].all()


def test_growing_stops_after_a_tenth_of_the_image():
    # A line of pixels ten apart over 320 columns: 32 steps of ten pixels reach its end, of eight rows of it not.
    line = np.full((64, 64), 0.1)
    line[::10, :][:, ::10] = 0.6
    line[0, 0] = 0.9
    assert grow_region(line).sum() == (line > 0.5).sum()
    snake = np.full((40, 200), 0.1)
    snake[0], snake[20], snake[0:20, -1] = 0.6, 0.6, 0.6
    snake[0, 0] = 0.9
    # 20 steps of 10 pixels: along the first row and no further back than the turn.
    grown = grow_region(snake)
    assert grown[0].all()
    assert not grown[20, :150].any()


def test_no_hand_grows_nothing():
    assert not grow_region(np.full((40, 40), 0.4)).any()


def test_paper_crop_by_hand():
    mask = np.zeros((240, 320), bool)
    mask[50:151, 100:181] = True
    crop = paper_crop(mask)
    # rows 50..150: 100 pixels without +1, the longer side; times 1.25 is 125.
    assert crop.center == (100, 140)
    assert crop.scale == pytest.approx(256 / 125)
    np.testing.assert_allclose(crop.box(240, 320) * [240, 320, 240, 320], [38, 78, 163, 203])
    np.testing.assert_allclose(crop.to_image([[128, 128], [0, 256]]), [[140, 100], [77.5, 162.5]])


@pytest.mark.parametrize("rows, scale", [(1, 5), (30, 5), (239, 256 / (1.25 * 238))])
def test_crop_scale_is_limited(rows, scale):
    mask = np.zeros((240, 320), bool)
    mask[:rows, 7] = True
    assert paper_crop(mask).scale == pytest.approx(scale)


def test_empty_mask_gives_the_authors_square():
    crop = paper_crop(np.zeros((240, 320), bool))
    assert (crop.center, crop.found) == ((160, 160), False)
    assert crop.scale == pytest.approx(256 / 125)
