"""Packed whole scenes: what HandSegNet's training reads, made once from data sets in RHD's layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_pose_3d.errors import InvalidInputError

SCENE_SIZE = 320
PERSON, HAND = 1, 2
"""Values of the fourth channel; 0 is background."""


@dataclass(frozen=True)
class ScenePack:
    """Scenes as (N, 320, 320, 4) uint8: RGB and the class of each pixel."""

    rgbc: np.ndarray

    def __len__(self) -> int:
        return len(self.rgbc)


def load_scenes(folder: str | Path) -> ScenePack:
    """Open a pack of scenes; it stays on disk until it is touched."""
    try:
        return ScenePack(np.load(Path(folder) / "scenes.npy", "r"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{folder} is not a pack of scenes: {error}") from error


def pack_scenes(samples: Iterable, folder: str | Path, count: int) -> ScenePack:
    """Write a pack from (image (H, W, 3) RGB uint8, part labels (H, W) as in RHD's masks) pairs."""
    import cv2
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "scenes.tmp.npy"
    out = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SCENE_SIZE, SCENE_SIZE, 4))
    n = 0
    for image, parts in tqdm(samples, desc="packing scenes", unit="image", total=count):
        classes = np.minimum(parts, HAND).astype(np.uint8)
        if image.shape[:2] != (SCENE_SIZE, SCENE_SIZE):
            image = cv2.resize(image, (SCENE_SIZE, SCENE_SIZE), interpolation=cv2.INTER_AREA)
            classes = cv2.resize(classes, (SCENE_SIZE, SCENE_SIZE), interpolation=cv2.INTER_NEAREST)
        out[n] = np.dstack([image, classes])
        n += 1
        if n == count:
            break
    out.flush()
    if n < count:
        raise InvalidInputError(f"{count} scenes were asked for, the data set gave {n}")
    partial.replace(folder / "scenes.npy")
    return load_scenes(folder)
