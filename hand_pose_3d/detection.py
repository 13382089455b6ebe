"""From the maps of HandSegNet to detections: position, extent, direction and score of each hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import EXTENT_UNIT, STRIDE
from hand_pose_3d.windows import crop_upright, fits

PADDING = 114
"""Grey level, 0 to 255, around an image that does not fill the input; HandSegNet was trained with it."""
_SAME_SHIFT, _SAME_RATIO = 0.33, 1.9
"""Two detections are one hand if their centres are nearer than this share of the larger extent and their extents differ
by no more than this factor. Set by hand."""
_QUARTER = 0.58
"""Edge of one of four overlapping parts as a share of the image's; above a half, so that no hand is cut by all of them.
"""
_LARGEST_FINE = 110.0
"""Extent in pixels of the network's input above which hands are left to a coarser pass; set by hand."""
_QUICK_SCALE = 0.93
"""Factor by which the scale of a fast search may be smaller, which at 640x480 spares a sixth of the input, most of it
padding before. Set by hand."""
_LEAST_QUICK, _LEAST_THOROUGH = 0.15, 0.05
"""Least score of a detection that is read in a fast and in a thorough search: docs/experiments.md, "Two windows, two
hands"."""
_LEAST_PALM = 0.3
"""The same of LitePalmNet's detections, in a thorough search; set by hand."""
_WHOLE_SCORE = 0.4
"""A whole hand replaces detections of its parts if its score is at least this share of theirs; set by hand."""
_PIECE = 0.45
"""A much smaller detection is a part of another within this share of its extent from its centre; set by hand."""


@dataclass(frozen=True)
class Detection:
    """One detected hand. center: (u, v) pixels of the image; extent: of its keypoints, pixels; angle: radians
    by which it is turned clockwise, 0 when its fingers point up; score: HandSegNet's, 0 to 1; palm: LitePalmNet's, None
    where it did not look."""

    center: tuple[float, float]
    extent: float
    angle: float
    score: float
    palm: float | None = None

    def crop(self, size: int, margin: float) -> Crop:
        """The window to read: `margin` times the extent, the hand pointing up."""
        return Crop(self.center, max(self.extent * margin, 1.0), size, self.angle)


@dataclass(frozen=True)
class SearchPass:
    """A pass of HandSegNet over a part of an image. origin: (x, y) of its corner and size: (w, h), pixels of the image;
    pixels: approximate number in the network's input; largest: extents above are left to coarser passes, pixels of the
    input; least: score below which a place is not read; least_palm: the same for LitePalmNet, None where it does not
    look; shrink: below 1, the scale may be smaller by this factor so that less of the input is padding."""

    origin: tuple[int, int]
    size: tuple[int, int]
    pixels: int
    largest: float = math.inf
    least: float = _LEAST_QUICK
    least_palm: float | None = None
    shrink: float = 1.0

    def input_size(self, step: int) -> tuple[float, tuple[int, int], tuple[int, int]]:
        """The part's scale in the network's input, its (width, height) there, and the input's, multiples of `step`.

        The part keeps its aspect ratio.
        """
        scale = (self.pixels / (self.size[0] * self.size[1])) ** 0.5
        if self.shrink < 1:
            smallest = [math.ceil(side * scale * self.shrink / step) * step for side in self.size]
            scale = min(least / side for least, side in zip(smallest, self.size))
        width, height = (max(round(side * scale), 8) for side in self.size)
        return scale, (width, height), (-(-width // step) * step, -(-height // step) * step)


def search_passes(width: int, height: int, pixels: int, search: str, number: int) -> list[SearchPass]:
    """Passes with which an image is searched.

    'thorough': several passes, over the whole image at `pixels` and, up to its own resolution, at 2, 4 and 8 times as
    many. 'fast': one pass of `pixels` a search, in alternation over the whole image and one of four overlapping parts.
    """
    whole = SearchPass((0, 0), (width, height), pixels)
    if search == "thorough":
        whole = replace(whole, least=_LEAST_THOROUGH, least_palm=_LEAST_PALM)
        finer = [f for f in (2, 4, 8) if f * pixels <= 1.3 * width * height]
        return [whole, *(replace(whole, pixels=f * pixels, largest=_LARGEST_FINE) for f in finer)]
    whole = replace(whole, shrink=_QUICK_SCALE)
    if number % 2 == 0:
        return [whole]
    quarter = number // 2 % 4
    w, h = round(_QUARTER * width), round(_QUARTER * height)
    return [replace(whole, origin=((quarter % 2) * (width - w), (quarter // 2) * (height - h)), size=(w, h))]


def decode(maps: np.ndarray, step: tuple[float, float], origin: tuple[float, float], least: float) -> list[Detection]:
    """Detections of one pass.

    maps: (6, h, w) of centre probability (0 except at peaks), log extent, sine, cosine and offset x and y; step: image
    pixels to a cell, (x, y); origin: of the part in the image. least: score below which a peak is ignored.
    """
    rows, columns = np.nonzero(maps[0] >= least)
    score, extent, sine, cosine, dx, dy = maps[:, rows, columns].astype(float)
    extent = np.exp(np.clip(extent, -3, 4)) * EXTENT_UNIT / STRIDE  # cells
    x = (columns + 0.5 + dx * extent) * step[0] - 0.5 + origin[0]
    y = (rows + 0.5 + dy * extent) * step[1] - 0.5 + origin[1]
    scale = math.sqrt(step[0] * step[1])
    found = [
        Detection((float(u), float(v)), float(e * scale), float(np.arctan2(s, c)), float(p))
        for u, v, e, s, c, p in zip(x, y, extent, sine, cosine, score)
    ]
    return sorted(found, key=lambda d: -d.score)


def same_hand(a: Detection, b: Detection) -> bool:
    """Whether two detections are of one hand, or one is of a part of the other's."""
    larger, smaller = max(a.extent, b.extent), min(a.extent, b.extent)
    distance = math.dist(a.center, b.center)
    if larger <= _SAME_RATIO * smaller:
        return distance < _SAME_SHIFT * larger
    return distance < _PIECE * larger


def distinct_detections(detections: Iterable[Detection]) -> list[Detection]:
    """One detection per hand, by falling score: the best one, never a part of a hand that was detected as a whole."""

    def whole(piece: Detection, other: Detection) -> bool:
        larger = other.extent > _SAME_RATIO * piece.extent and other.score >= _WHOLE_SCORE * piece.score
        return larger and same_hand(piece, other)

    detections = sorted(detections, key=lambda d: -d.score)
    kept: list[Detection] = []
    for detection in (d for d in detections if not any(whole(d, other) for other in detections)):
        if not any(same_hand(detection, other) for other in kept):
            kept.append(detection)
    return kept


def with_palms(detections: Sequence[Detection], palms: Sequence[Detection]) -> list[Detection]:
    """Detections of HandSegNet and of LitePalmNet, whose `score` is that of the palm: each with the scores of both, by
    the higher of the two. A hand that both see is read in both windows unless they are nearly one."""

    def best(detection: Detection, others: Sequence[Detection]) -> float:
        return max((other.score for other in others if same_hand(detection, other)), default=0.0)

    def window(detection: Detection) -> Crop:
        return detection.crop(1, 1.0)

    both = [replace(palm, score=best(palm, detections), palm=palm.score) for palm in palms]
    for detection in detections:
        if not any(fits(window(detection), window(palm)) for palm in palms):
            both.append(replace(detection, palm=best(detection, palms)))
    return sorted(both, key=lambda d: -max(d.score, d.palm or 0.0))


def on_known(detection: Detection, known: Sequence[np.ndarray]) -> bool:
    """Whether a detection is of a hand that is known already. known: (21, 2) pixels each."""
    windows = (crop_upright(keypoints_px, 1, 1.0) for keypoints_px in known)
    return any(same_hand(detection, Detection(w.center, max(w.side, 1.0), 0.0, 1.0)) for w in windows)


def evidence(score: float, detection: Detection, crop: Crop) -> np.ndarray:
    """Features (6,) from which the score of a hand is computed, given its detection; (7,) where LitePalmNet looked.

    1, log odds of its score and of the detection's, how far its window (at margin 1) is from the detection: shift
    over the extent, log ratio of sizes, 1 - cosine of the turn; and log odds of the palm.
    """

    def odds(p: float, least: float = 1e-4) -> float:
        p = min(max(p, least), 1 - 1e-4)
        return math.log(p / (1 - p))

    shift = min(math.dist(crop.center, detection.center) / max(crop.side, detection.extent, 1.0), 2.0)
    ratio = min(abs(math.log(max(crop.side, 1.0) / max(detection.extent, 1.0))), 2.0)
    turn = 1 - math.cos(crop.angle - detection.angle)
    facts = [1.0, odds(score), odds(detection.score), shift, ratio, turn]
    if detection.palm is not None:  # below what is read nothing is known of either network's score
        facts[2] = odds(detection.score, _LEAST_THOROUGH)
        facts.append(odds(detection.palm, _LEAST_PALM))
    return np.array(facts)
