"""From hand probabilities to hands: the paper's region growing for one, connected regions for several.

Runs on the CPU with numpy and OpenCV: masks are small, and region growing is a loop until nothing changes.
Boxes are (x, y, width, height) in pixels, as OpenCV has them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REACH_PX = 10
"""Gaps of up to this many pixels do not divide a hand (the paper dilates by a 21x21 square)."""


class HandRegion(NamedTuple):
    """One region of a mask. box: (x, y, width, height) in pixels of the mask; score: mean probability inside."""

    box: tuple[int, int, int, int]
    score: float


def hand_regions(
    probability: np.ndarray, *, threshold: float = 0.5, min_area_px: int = 16, reach_px: int = REACH_PX
) -> list[HandRegion]:
    """Connected regions of hand pixels, by falling sum of probability.

    probability: (H, W) float in 0..1. Pixels above `threshold` belong to one region if a chain of steps of at
    most reach_px in rows and columns joins them. Regions below min_area_px are dropped.
    """
    import cv2

    binary = (probability > threshold).astype(np.uint8)
    left, top, *size = cv2.boundingRect(binary)
    if not size[0]:
        return []
    # Hand pixels usually fill a small part of the image.
    inner = np.s_[top : top + size[1], left : left + size[0]]
    binary = binary[inner]
    # Squares of this edge around two pixels touch exactly if the pixels are within reach of each other.
    square = np.ones((max(int(reach_px), 1),) * 2, np.uint8)
    points = cv2.findNonZero(binary).reshape(-1, 2)
    at = points[:, 1], points[:, 0]
    labels = cv2.connectedComponents(cv2.dilate(binary, square), connectivity=8)[1][at]
    sizes, weight = np.bincount(labels), np.bincount(labels, weights=np.asarray(probability)[inner][at])
    regions = []
    for label in np.argsort(-weight, kind="stable"):
        if sizes[label] >= max(min_area_px, 1):
            x, y, width, height = cv2.boundingRect(points[labels == label])
            regions.append(HandRegion((left + x, top + y, width, height), float(weight[label] / sizes[label])))
    return regions


def grow_region(probability: np.ndarray) -> np.ndarray:
    """The paper's object: all hand pixels that can be reached from the most probable one.

    probability: (H, W) float, softmax of the hand channel. Returns (H, W) bool. Starting at the first
    maximum, the object is dilated by a 21x21 square and cut with probability > 0.5, max(H, W) // 10 times
    (hand3d, single_obj_scoremap).
    """
    import cv2

    binary = (probability > 0.5).astype(np.uint8)
    found = np.zeros_like(binary)
    x, y, width, height = cv2.boundingRect(binary)
    if not width:
        return found.astype(bool)
    found.flat[int(np.argmax(probability))] = 1
    # The region stays among the hand pixels, usually a small part of the image.
    inner, pixels = (mask[y : y + height, x : x + width] for mask in (found, binary))
    square = np.ones((2 * REACH_PX + 1, 2 * REACH_PX + 1), np.uint8)
    for _ in range(max(probability.shape) // 10):
        grown = np.bitwise_and(cv2.dilate(inner, square), pixels)
        if np.array_equal(grown, inner):
            break
        inner[...] = grown
    return found.astype(bool)
