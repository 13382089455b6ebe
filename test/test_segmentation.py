"""Regions and the paper's region growing, on masks whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from hand_pose_3d.segmentation import grow_region, hand_regions


def probability(*rectangles, size=(240, 320)):
    """Map with rectangles (x, y, width, height, value) over a background of 0.1."""
    image = np.full(size, 0.1)
    for x, y, width, height, value in rectangles:
        image[y : y + height, x : x + width] = value
    return image


def test_two_hands_give_two_boxes_the_larger_first():
    regions = hand_regions(probability((10, 20, 30, 40, 0.9), (200, 100, 60, 50, 0.8)))
    assert [r.box for r in regions] == [(200, 100, 60, 50), (10, 20, 30, 40)]
    assert [r.score for r in regions] == pytest.approx([0.8, 0.9])


def test_small_and_improbable_regions_are_left_out():
    image = probability((10, 20, 30, 40, 0.9), (200, 100, 60, 50, 0.8), (100, 200, 2, 3, 0.99))
    assert len(hand_regions(image)) == 2
    assert len(hand_regions(image, min_area_px=6)) == 3
    assert hand_regions(image, threshold=0.995) == []
    assert hand_regions(np.zeros((8, 8))) == []


@pytest.mark.parametrize("gap, count", [(9, 1), (10, 2)])
def test_gaps_up_to_the_reach_are_bridged(gap, count):
    # Nine empty columns: the pixels on both sides are ten apart.
    image = probability((20, 20, 30, 30, 0.9), (50 + gap, 20, 30, 30, 0.9))
    assert len(hand_regions(image)) == count
    assert grow_region(image)[25, 60 + gap] == (count == 1)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_regions_and_growth_are_chains_of_steps_of_ten_pixels(seed):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random((60, 80)) < 0.01, rng.uniform(0.55, 1, (60, 80)), 0.2)
    image[30, 40] = 1.0
    pixels = np.argwhere(image > 0.5)
    near = np.abs(pixels[:, None] - pixels[None]).max(-1) <= 10

    count, labels = connected_components(near)
    boxes = sorted(r.box for r in hand_regions(image, min_area_px=1))
    parts = [pixels[labels == k] for k in range(count)]
    corners = [(*part.min(0)[::-1], *(np.ptp(part, axis=0)[::-1] + 1)) for part in parts]
    assert boxes == sorted(tuple(int(x) for x in corner) for corner in corners)

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
