"""An image gets the depth of its own moment, or none and the reason."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fake_estimator import make_hand
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.ros.depth import DepthImages, check_registered, checked_depth, what_was_used
from hand_pose_3d.skeleton import Side

CAMERA = Camera(500, 500, 320, 240)


def depths(*stamps: float) -> DepthImages:
    """Depth images that came at their stamps; each message is its stamp."""
    images = DepthImages()
    for stamp in stamps:
        images.add(stamp, stamp, time.monotonic())
    return images


def take(images, stamp, offset=0.005, wait=0.0):
    return images.take(stamp, time.monotonic(), offset, wait)


def test_depth_of_the_same_stamp_is_taken_and_never_the_one_before():
    images = depths(1.0, 1.033, 1.067)
    assert [take(images, stamp) for stamp in (1.0, 1.033, 1.067)] == [1.0, 1.033, 1.067]
    assert take(images, 1.1) is None
    assert take(images, 1.1, offset=0.05) is None  # whatever is allowed: it is the depth of another image


def test_depth_of_a_clock_of_its_own_is_taken_within_the_offset():
    images = depths(1.010, 1.043, 1.077)
    assert take(images, 1.033) is None
    assert take(images, 1.033, offset=0.016) == 1.043


def test_depth_that_came_twice_takes_no_image_its_depth():
    images = depths(1.005, 1.038, 1.0385, 1.071, 1.104)
    assert take(images, 1.067) == 1.071 and take(images, 1.1) == 1.104


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True), st.integers(0, 60), st.integers(0, 100))
def test_what_is_taken_lies_within_the_offset_and_nothing_lies_nearer(ticks, tick, offset):
    stamps = sorted(100 + n / 60 for n in ticks)
    found = take(depths(*stamps), 100 + tick / 60, offset=offset / 1000)
    if found is not None:
        gap = abs(found - (100 + tick / 60))
        assert gap <= offset / 1000 and gap == min(abs(stamp - (100 + tick / 60)) for stamp in stamps)


def wait_for(images, stamp, wait):
    begin = time.monotonic()
    return take(images, stamp, wait=wait), time.monotonic() - begin


def test_depth_that_comes_after_its_image_is_waited_for():
    images = depths(1.0, 1.1)
    threading.Timer(0.02, images.add, (1.2, 1.2, time.monotonic())).start()
    found, waited_s = wait_for(images, 1.2, 30.0)
    assert found == 1.2 and waited_s < 20.0


def test_nothing_is_waited_for_that_is_not_due():
    assert wait_for(depths(1.0, 1.2), 1.1, 30.0)[1] < 20.0  # a later one is there: it was lost
    assert (
        wait_for(depths(0.7, 0.8, 0.9, 1.0, 1.1), 1.14, 30.0)[1] < 20.0
    )  # between two: depth is slower than the images
    images = depths(1.0, 1.1)
    for k in range(10):
        take(images, 2.0 + k)
    assert wait_for(images, 12.0, 30.0)[1] < 20.0  # the depth camera stopped
    images.add(12.0, 12.0, time.monotonic())  # it is back, a little late
    threading.Timer(0.02, images.add, (13.0, 13.0, time.monotonic())).start()
    assert take(images, 13.0, wait=30.0) == 13.0


def test_images_between_those_of_depth_at_half_their_rate_wait_for_none():
    """Whose depth would be that of the image before or after; stamps shake by a millisecond."""
    images = depths(*(k / 15 for k in range(6)))
    for shake in (-0.001, 0.0, 0.001):
        begin = time.monotonic()
        assert take(images, 5.5 / 15 + shake, offset=0.02, wait=0.5) is None
        assert time.monotonic() - begin < 0.2


def test_depth_of_before_a_jump_of_time_is_forgotten():
    depths = DepthImages()
    depths.add("old", 10.0, 100.0)
    depths.add("new", 9.5, 101.0)
    depths.forget(100.5)
    assert depths.take(10.0, 101.1, 0.02, 0.0) is None
    assert depths.take(9.5, 101.1, 0.02, 0.0) == "new"


def test_nobody_waits_for_depth_of_closed_inputs():
    depths, taken = DepthImages(), []
    waiting = threading.Thread(target=lambda: taken.append(depths.take(1.0, time.monotonic(), 0.02, 30.0)))
    waiting.start()
    depths.close()
    waiting.join(10)
    assert taken == [None]


def test_depth_of_an_earlier_recording_with_the_same_stamps_is_not_taken():
    images = DepthImages()
    images.add("old", 1.0, time.monotonic() - 60.0)
    assert take(images, 1.0) is None


def message(values, encoding, frame_id="camera"):
    values = np.asarray(values)
    height, width = values.shape
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame_id),
        height=height,
        width=width,
        step=width * values.itemsize,
        encoding=encoding,
        is_bigendian=0,
        data=values.tobytes(),
    )


@pytest.mark.parametrize(
    ("values", "encoding", "says"),
    [
        (np.zeros((8, 8), "<u2"), "16UC1", "empty"),
        (np.full((8, 8), np.nan, "<f4"), "32FC1", "empty"),
        (np.full((8, 8), 480, "<f4"), "32FC1", "metres"),
        (np.zeros((8, 8), "u1"), "mono8", "16UC1"),
    ],
)
def test_depth_without_a_value_or_in_another_unit_is_refused(values, encoding, says):
    with pytest.raises(InvalidInputError, match=says):
        checked_depth(message(values, encoding))


def test_depth_out_of_doors_is_read():
    values = np.full((40, 40), 300, "<f4")
    values[5:20, 5:20] = 0.5
    assert np.nanmin(checked_depth(message(values, "32FC1"))) == 0.5


def test_depth_has_to_be_registered():
    depth = message(np.ones((4, 6), "<u2"), "16UC1")
    check_registered(depth, "camera", (4, 6, 3))
    check_registered(depth, "/camera", (4, 6, 3))
    with pytest.raises(InvalidInputError, match="'camera'.*'other'"):
        check_registered(depth, "other", (4, 6, 3))
    with pytest.raises(InvalidInputError, match="6x4.*8x4"):
        check_registered(depth, "camera", (4, 8, 3))


def test_what_was_used_is_said_of_the_hands_that_there_are():
    depth = np.full((480, 640), 5.0, np.float32)
    placed = make_hand(Side.RIGHT, 0.5, CAMERA, np.full((480, 640), 0.5))
    assumed = make_hand(Side.LEFT, 0.5, CAMERA)
    assert what_was_used([placed], depth) == ("depth", "")
    assert what_was_used([], depth) == ("no hand in the last image", "")
    assert what_was_used([assumed], None) == ("reference length, assumed", "")
    used, why = what_was_used([placed, assumed], depth)
    assert used == "depth (1 of 2), reference length, assumed (1 of 2)"
    assert "reads 5 m" in why and "0.50 m" in why and "unit" in why
    assert "no values where the hand is" in what_was_used([assumed], np.full((480, 640), np.nan))[1]
    outside = assumed.replace(keypoints_px=assumed.keypoints_px + 1e9, scale_source=ScaleSource.NONE, keypoints_m=None)
    assert "no values" in what_was_used([outside], depth)[1]
