"""The frames that are measured on: the built-in clip, noise, several hands in one image, other sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.images import CLIP, Video

SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))  # (width, height), pixels
HANDS = (1, 2, 3, 4)  # in one image
_DISTINCT_NOISE = 16  # different frames of noise, repeated


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames (H, W, 3) uint8 RGB, their camera and the time that each took to decode; name: 'clip' or 'noise'."""

    name: str
    frames: list[np.ndarray]
    camera: Camera
    decode_ms: list[float]


def read_clip(count: int, path: Path = CLIP) -> Clip | None:
    """The first frames of the built-in clip; None if it is not installed."""
    truth = path.with_suffix(".json")
    if not path.is_file() or not truth.is_file():
        return None
    camera = Camera(**json.loads(truth.read_text(encoding="utf-8"))["camera"])
    frames, times = [], []
    start = time.perf_counter()
    for frame in islice(Video(path), count):
        times.append(1e3 * (time.perf_counter() - start))
        frames.append(frame)
        start = time.perf_counter()
    return Clip("clip", frames, camera, times[1:])  # opening the file is part of the first


def noise(count: int, size: tuple[int, int] = (640, 480), seed: int = 0) -> Clip:
    """Frames of uniform noise without hands; size: (width, height). A few different frames repeat."""
    rng = np.random.default_rng(seed)
    distinct = [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(min(count, _DISTINCT_NOISE))]
    camera = Camera(max(size), max(size), (size[0] - 1) / 2, (size[1] - 1) / 2, *size)
    return Clip("noise", [distinct[i % len(distinct)] for i in range(count)], camera, [])


def resized(clip: Clip, size: tuple[int, int]) -> Clip:
    """The clip at another size, (width, height)."""
    import cv2

    height, width = clip.frames[0].shape[:2]
    if (width, height) == size:
        return clip
    interpolation = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
    return replace(
        clip,
        frames=[cv2.resize(frame, size, interpolation=interpolation) for frame in clip.frames],
        camera=clip.camera.scaled(size[0] / width, size[1] / height),
    )


def tiled(frames: Sequence[np.ndarray], hands: int) -> list[np.ndarray]:
    """Images of the same size that show one to four frames: one full, else at half size in a grid of four.

    Each tile shows another time of the clip, so that no two are alike; tiles without one are grey.
    """
    import cv2

    if hands == 1:
        return list(frames)
    height, width = frames[0].shape[:2]
    h, w = height // 2, width // 2
    small = [cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA) for frame in frames]
    out = []
    for i in range(len(small)):
        image = np.full((height, width, 3), 114, np.uint8)
        # Opposite corners, so that two hands never touch.
        for k, (row, column) in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))[:hands]):
            tile = small[(i + k * len(small) // hands) % len(small)]
            image[row * h : (row + 1) * h, column * w : (column + 1) * w] = tile
        out.append(image)
    return out
