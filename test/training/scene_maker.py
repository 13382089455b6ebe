"""Scenes whose keypoints are dots of their own colours, so that any picture made of them says where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.training.scenes import BACKGROUND, HAND, UNKNOWN, LabelledScene, ScenePack, pack_scenes


def keypoints(center: tuple[float, float], extent: float, angle: float = 0.0) -> np.ndarray:
    """(21, 2) pixels of an open hand, fingers up, turned clockwise by angle."""
    fan = [[0.0, 0.0]]
    for finger in range(5):
        direction = np.deg2rad(-50 + 25 * finger)
        fan += [[np.sin(direction) * r, -np.cos(direction) * r] for r in (0.5, 0.72, 0.88, 1.0)]
    uv = np.array(fan) - [0, -0.5]
    c, s = np.cos(angle), np.sin(angle)
    return uv @ np.array([[c, s], [-s, c]]) * extent / np.ptp(uv, axis=0).max() + center


def colour(k: int) -> tuple[int, int, int]:
    """Red and green say which keypoint it is; every dot has no blue, everything else has some."""
    return 20 + 11 * k, 235 - 11 * k, 0


def scene(
    *hands: np.ndarray,
    size: tuple[int, int] = (320, 320),
    sure: tuple[bool, ...] | None = None,
    complete: bool = True,
    radius: int = 5,
    background: tuple[int, int, int] = (90, 90, 200),
) -> LabelledScene:
    """A picture of (width, height) with the dots of hands (21, 2), whose pixels are of class HAND.

    All others are unknown in an incomplete one.
    """
    rgb = np.full((size[1], size[0], 3), background, np.uint8)
    classes = np.full((size[1], size[0]), BACKGROUND if complete else UNKNOWN, np.uint8)
    for uv in hands:
        for k, at in enumerate(uv.round().astype(int).tolist()):
            cv2.circle(rgb, at, radius, colour(k), -1)
            cv2.circle(classes, at, radius, HAND, -1)
    count = len(hands)
    return LabelledScene(
        np.dstack([rgb, classes]),
        np.array(hands, float).reshape(count, NUM_KEYPOINTS, 2),
        np.ones(count, bool) if sure is None else np.array(sure),
        np.arange(count) % 2.0,
        np.zeros((count, NUM_KEYPOINTS)),
        complete,
    )


def packed(folder: Path, *scenes: LabelledScene, source: str = "dots") -> ScenePack:
    """A pack of them."""
    return pack_scenes([(source, one) for one in scenes], folder)


def find_dots(image: np.ndarray) -> np.ndarray:
    """(21, 2) middles of the dots of one hand in a picture, NaN where a dot is not seen."""
    red, green, blue = (image[..., c].astype(int) for c in range(3))
    uv = np.full((NUM_KEYPOINTS, 2), np.nan)
    for k in range(NUM_KEYPOINTS):
        r, g, _ = colour(k)
        rows, columns = np.nonzero((abs(red - r) < 5) & (abs(green - g) < 5) & (blue < 25))
        if len(rows):
            uv[k] = columns.mean(), rows.mean()
    return uv
