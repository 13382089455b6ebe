"""Keypoint orders, names and sides."""

import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as arrays

from hand_pose_3d.skeleton import (
    BONES,
    FINGERTIPS,
    FROM_PAPER,
    KEYPOINT_NAMES,
    MIDDLE_MCP,
    NUM_KEYPOINTS,
    PARENTS,
    TO_PAPER,
    WRIST,
    Side,
    palm_from_wrist,
    wrist_from_palm,
)

KEYPOINTS = arrays.arrays(float, (21, 3), elements={"min_value": -1e3, "max_value": 1e3})

# As the paper's data set lists them: wrist, then each finger from the tip on.
PAPER_NAMES = ["wrist"]
for finger, base in (("thumb", "cmc"), ("index", "mcp"), ("middle", "mcp"), ("ring", "mcp"), ("little", "mcp")):
    middle = ("ip", "mcp") if finger == "thumb" else ("dip", "pip")
    PAPER_NAMES += [f"{finger}_{joint}" for joint in ("tip", *middle, base)]


def test_21_different_names():
    assert len(set(KEYPOINT_NAMES)) == NUM_KEYPOINTS == 21
    assert all(KEYPOINT_NAMES[k].endswith("_tip") for k in FINGERTIPS)


def test_papers_order_by_name():
    assert [PAPER_NAMES[k] for k in FROM_PAPER] == list(KEYPOINT_NAMES)
    assert [KEYPOINT_NAMES[k] for k in TO_PAPER] == PAPER_NAMES


@given(KEYPOINTS)
def test_papers_order_and_back(keypoints):
    np.testing.assert_array_equal(keypoints[FROM_PAPER][TO_PAPER], keypoints)
    np.testing.assert_array_equal(keypoints[FROM_PAPER][FROM_PAPER], keypoints)


def test_bones_lead_from_the_wrist_to_every_tip():
    assert len(BONES) == 20 and sorted(child for _, child in BONES) == list(range(1, 21))
    for tip in FINGERTIPS:
        chain = [tip]
        while PARENTS[chain[-1]] >= 0:
            chain.append(PARENTS[chain[-1]])
        assert chain[-1] == WRIST and len(chain) == 5
        assert len({KEYPOINT_NAMES[k].partition("_")[0] for k in chain[:-1]}) == 1


@given(KEYPOINTS)
def test_palm_and_wrist(keypoints):
    palm = palm_from_wrist(keypoints)
    np.testing.assert_allclose(palm[WRIST], (keypoints[WRIST] + keypoints[MIDDLE_MCP]) / 2)
    np.testing.assert_array_equal(palm[1:], keypoints[1:])
    np.testing.assert_allclose(wrist_from_palm(palm), keypoints, atol=1e-9)


def test_palm_conversion_keeps_its_input_and_takes_batches():
    keypoints = np.arange(2 * 21 * 2, dtype=float).reshape(2, 21, 2)
    before = keypoints.copy()
    out = palm_from_wrist(keypoints)
    np.testing.assert_array_equal(keypoints, before)
    np.testing.assert_array_equal(out[1], palm_from_wrist(keypoints[1]))


def test_sides():
    assert [side.label for side in Side] == ["unknown", "left", "right"]
    assert [int(side) for side in Side] == [0, 1, 2]
    assert (Side.LEFT.other, Side.RIGHT.other, Side.UNKNOWN.other) == (Side.RIGHT, Side.LEFT, Side.UNKNOWN)
