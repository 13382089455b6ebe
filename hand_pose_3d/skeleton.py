"""The 21 keypoints of a hand: names, bones, sides, and conversions from other keypoint orders.

The order inside this package and in its messages is 0 wrist, then thumb, index, middle, ring and
little finger, each from base to tip (the order of MediaPipe, FreiHAND and OpenPose).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

NUM_KEYPOINTS = 21
FINGERS = ("thumb", "index", "middle", "ring", "little")
JOINTS = {
    "thumb": ("cmc", "mcp", "ip", "tip"),
    **dict.fromkeys(FINGERS[1:], ("mcp", "pip", "dip", "tip")),
}
KEYPOINT_NAMES = ("wrist",) + tuple(f"{finger}_{joint}" for finger in FINGERS for joint in JOINTS[finger])

WRIST = 0
INDEX_MCP, INDEX_PIP = 5, 6  # MCP: knuckle, PIP: middle joint
MIDDLE_MCP, MIDDLE_PIP = 9, 10
LITTLE_MCP = 17
FINGERTIPS = (4, 8, 12, 16, 20)
THUMB_TIP, INDEX_TIP = FINGERTIPS[:2]
FINGER_BASES = [5, 9, 13, 17]
"""Knuckles of the four fingers; a list, which indexes arrays."""
PALM = [WRIST, *FINGER_BASES]

PARENTS = (-1,) + tuple(0 if k % 4 == 1 else k - 1 for k in range(1, NUM_KEYPOINTS))
BONES = tuple((PARENTS[k], k) for k in range(1, NUM_KEYPOINTS))

REFERENCE_BONE = (INDEX_MCP, INDEX_PIP)
"""The bone of length one: the index finger's first (paper, section 4.2)."""

AUTHORS_REFERENCE_BONE = (MIDDLE_MCP, MIDDLE_PIP)
"""The bone that the authors' code and weights normalise by."""


class Side(IntEnum):
    """The person's own hand; values are those of HandPose3D.side."""

    UNKNOWN = 0
    LEFT = 1
    RIGHT = 2

    @property
    def label(self) -> str:
        """Lower-case name: 'unknown', 'left' or 'right'."""
        return self.name.lower()

    @property
    def other(self) -> Side:
        """The opposite side; unknown stays unknown."""
        return {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT}.get(self, self)


FROM_PAPER = np.array([0] + [1 + 4 * finger + (3 - joint) for finger in range(5) for joint in range(4)])
"""``public = paper[..., FROM_PAPER, :]``: RHD and hand3d run each finger from tip to base."""

TO_PAPER = np.argsort(FROM_PAPER)
"""``paper = public[..., TO_PAPER, :]``; the map is its own inverse."""


def palm_from_wrist(keypoints: np.ndarray) -> np.ndarray:
    """Replace the wrist by the palm centre, halfway to the middle finger's base.

    keypoints: (..., 21, D) in public order. Returns a copy. Source: hand3d with use_wrist_coord=False.

    >>> palm_from_wrist(np.arange(42.0).reshape(21, 2))[0].tolist()  # halfway from (0, 1) to (18, 19)
    [9.0, 10.0]
    """
    out = np.array(keypoints, copy=True)
    out[..., WRIST, :] = 0.5 * (out[..., WRIST, :] + out[..., MIDDLE_MCP, :])
    return out


def wrist_from_palm(keypoints: np.ndarray) -> np.ndarray:
    """Inverse of :func:`palm_from_wrist`: wrist = 2 palm - middle MCP. keypoints: (..., 21, D); returns a copy."""
    out = np.array(keypoints, copy=True)
    out[..., WRIST, :] = 2 * out[..., WRIST, :] - out[..., MIDDLE_MCP, :]
    return out
