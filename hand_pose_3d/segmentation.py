"""From hand probabilities to hands: the paper's region growing for one, connected regions for several.

numpy and OpenCV on the host: masks are small, and region growing is a loop that ends when nothing changes.
Boxes are (x, y, width, height) in pixels, as OpenCV has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hand_pose_3d.skeleton import PARENTS

_THICKNESS = 0.2
"""Of a finger, over the longer side of the box around the hand's keypoints; with what a mask is broader."""
_ANOTHER = 0.3
"""What is left of a region beside a known hand is looked at if it has this share of the cells that the hand took."""
_PALM = [0, 1, 5, 9, 13, 17]

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


@dataclass(frozen=True)
class HandMask:
    """Where hands may be in an image.

    probability: (H, W) float in 0..1, of cells. size: width and height of the image; step: its pixels to a
    cell, (x, y). min_area, reach: of regions, as in :func:`hand_regions`, in cells.
    """

    probability: np.ndarray
    size: tuple[int, int]
    step: tuple[float, float]
    min_area: int = 16
    reach: int = REACH_PX

    def regions(self, max_hands: int, known: Sequence[np.ndarray] = ()) -> list[HandRegion]:
        """Regions in pixels of the image, without what known hands, (21, 2) pixels each, cover."""
        covered = cover(known, self.probability.shape, self.step) if known else None
        sx, sy = self.step
        regions = []
        for region in hand_regions(
            self.probability, max_hands=max_hands, min_area_px=self.min_area, reach_px=self.reach, covered=covered
        ):
            x, y, w, h = region.box
            left, top = round(x * sx), round(y * sy)
            right, bottom = min(round((x + w) * sx), self.size[0]), min(round((y + h) * sy), self.size[1])
            box = (left, top, max(right - left, 1), max(bottom - top, 1))
            regions.append(HandRegion(box, round(region.area_px * sx * sy), region.score))
        return regions


def cover(hands: Sequence[np.ndarray], shape: tuple[int, ...], step: tuple[float, float]) -> np.ndarray:
    """Cells (H, W) of 0 and 1 that the flesh of hands, (21, 2) pixels each, lies in. step: as in HandMask."""
    import cv2

    covered = np.zeros(shape[:2], np.uint8)
    for hand in hands:
        points = np.round(np.asarray(hand) / step - 0.5).astype(np.int32)
        thickness = max(round(_THICKNESS * float(np.ptp(points, axis=0).max())), 1)
        palm = cv2.convexHull(points[_PALM])
        cv2.fillConvexPoly(covered, palm, 1)
        bones = [points[[parent, k]] for k, parent in enumerate(PARENTS) if k]
        cv2.polylines(covered, [palm, *bones], False, 1, thickness)
    return covered


def hand_regions(
    probability: np.ndarray,
    *,
    threshold: float = 0.5,
    max_hands: int = 2,
    min_area_px: int = 16,
    reach_px: int = REACH_PX,
    covered: np.ndarray | None = None,
) -> list[HandRegion]:
    """Connected regions of hand pixels, by falling sum of probability.

    probability: (H, W) float in 0..1. Pixels above `threshold` belong to one region if a chain of steps of at
    most reach_px in rows and columns joins them. Regions below min_area_px are dropped. covered: (H, W) uint8, 1 where
    hands are that are known already; what is left of a region beside such a hand counts if it is large enough for
    another one.
    """
    import cv2

    binary = (probability > threshold).astype(np.uint8)
    # Squares of this edge around two pixels touch exactly if the pixels are within reach of each other.
    square = np.ones((max(int(reach_px), 1),) * 2, np.uint8)

    def connected(pixels: np.ndarray) -> np.ndarray:
        return cv2.connectedComponents(cv2.dilate(pixels, square), connectivity=8)[1] * pixels

    labels = connected(binary)
    least: dict[int, float] = {}
    if covered is not None:
        whole, hidden = labels, np.bincount(labels.ravel(), weights=covered.ravel())
        labels = connected(binary & (1 - covered))
        least = {label: _ANOTHER * hidden[whole[labels == label][0]] for label in range(1, labels.max() + 1)}
    sizes = np.bincount(labels.ravel())
    weight = np.bincount(labels.ravel(), weights=np.asarray(probability, dtype=float).ravel())
    sizes[0] = 0
    smallest = max(min_area_px, 1)
    candidates = [
        label for label in np.argsort(-weight, kind="stable") if sizes[label] >= max(smallest, least.get(label, 0))
    ]
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
