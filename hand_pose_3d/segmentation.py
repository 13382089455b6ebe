"""From hand probabilities to hands: the paper's region growing for one, connected regions for several.

numpy and OpenCV on the host: masks are small, and region growing is a loop that ends when nothing changes.
Boxes are (x, y, width, height) in pixels, as OpenCV has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH_PX = 10
"""Gaps of up to this many pixels do not divide a hand (the paper dilates by a 21x21 square)."""

CROP_PX = 256
_MARGIN = 1.25
_SCALES = (0.25, 5.0)
_EMPTY_CENTER, _EMPTY_SIZE = (160.0, 160.0), 100.0


@dataclass(frozen=True)
class HandRegion:
    """One region of a mask. box: (x, y, width, height) in pixels of the mask; score: mean probability inside."""

    box: tuple[int, int, int, int]
    area_px: int
    score: float


def hand_regions(
    probability: np.ndarray,
    *,
    threshold: float = 0.5,
    max_hands: int = 2,
    min_area_px: int = 16,
    reach_px: int = REACH_PX,
) -> list[HandRegion]:
    """Connected regions of hand pixels, by falling sum of probability.

    probability: (H, W) float in 0..1. Pixels above `threshold` belong to one region if a chain of steps of at
    most reach_px in rows and columns joins them. Regions below min_area_px are dropped.
    """
    import cv2

    binary = (probability > threshold).astype(np.uint8)
    # Squares of this edge around two pixels touch exactly if the pixels are within reach of each other.
    edge = max(int(reach_px), 1)
    _, labels = cv2.connectedComponents(cv2.dilate(binary, np.ones((edge, edge), np.uint8)), connectivity=8)
    labels *= binary
    sizes = np.bincount(labels.ravel())
    weight = np.bincount(labels.ravel(), weights=np.asarray(probability, dtype=float).ravel())
    sizes[0] = 0
    candidates = [label for label in np.argsort(-weight, kind="stable") if sizes[label] >= max(min_area_px, 1)]
    regions = []
    for label in candidates[:max_hands]:
        x, y, width, height = cv2.boundingRect((labels == label).astype(np.uint8))
        regions.append(HandRegion((x, y, width, height), int(sizes[label]), float(weight[label] / sizes[label])))
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
    found.flat[int(np.argmax(probability))] = 1
    square = np.ones((2 * REACH_PX + 1, 2 * REACH_PX + 1), np.uint8)
    for _ in range(max(probability.shape) // 10):
        grown = np.bitwise_and(cv2.dilate(found, square), binary, dtype=np.uint8)
        if np.array_equal(grown, found):
            break
        found = grown
    return found.astype(bool)


@dataclass(frozen=True)
class PaperCrop:
    """The square that the paper cuts out around a hand.

    center: (row, column) in pixels; scale: crop pixels per image pixel; found: whether the mask held anything.
    """

    center: tuple[float, float]
    scale: float
    found: bool = True

    def box(self, height: int, width: int) -> np.ndarray:
        """(4,) y1, x1, y2, x2 for networks.tensorflow_ops.crop_and_resize of an image of this size."""
        side = CROP_PX / self.scale
        y, x = self.center[0] - side // 2, self.center[1] - side // 2
        return np.array([y / height, x / width, (y + side) / height, (x + side) / width])

    def to_image(self, pixels: np.ndarray) -> np.ndarray:
        """Image pixels of crop pixels by the authors' rule. pixels: (..., 2) as (u, v); returns the same order."""
        return (np.asarray(pixels) - CROP_PX / 2) / self.scale + np.array(self.center[::-1])


def paper_crop(mask: np.ndarray) -> PaperCrop:
    """The paper's crop around an object: its box's longer side times 1.25, at a scale of 0.25 to 5.

    mask: (H, W) bool, from :func:`grow_region`. An empty mask gives the authors' square of 100 pixels around
    (160, 160), with found=False.
    """
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    found = len(rows) > 0
    if found:
        center = (float(rows[0] + rows[-1]) / 2, float(cols[0] + cols[-1]) / 2)
        size = float(max(rows[-1] - rows[0], cols[-1] - cols[0]))
    else:
        center, size = _EMPTY_CENTER, _EMPTY_SIZE
    scale = float(np.clip(CROP_PX / max(_MARGIN * size, 1e-6), *_SCALES))
    return PaperCrop(center, scale, found)
