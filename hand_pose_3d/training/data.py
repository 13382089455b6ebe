"""Packs of data sets in RHD's layout, made beside them the first time they are trained on."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.datasets.rhd import annotation_path, hand_mask, read_mask, read_rhd
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.families import load_family
from hand_pose_3d.skeleton import NUM_KEYPOINTS, Side
from hand_pose_3d.training.crops import CropPack, load_pack, pack
from hand_pose_3d.training.scenes import HAND, LabelledScene, ScenePack, pack_scenes

_MADE_FROM = "made_from.json"
"""File of a pack: JSON of the annotation's SHA-256 and the number of images that it was made of, null for all."""
MOST_SCENES = 20_000
"""Scenes that are kept of one split for HandSegNet, which bounds the pack to 8 GB."""
_MOST_WINDOWS = 4
"""Windows without a hand that are kept of one render, so that few renders do not dominate; set by hand."""
_LEAST_VISIBLE = 6
"""Number of visible keypoints from which on a hand has to be detected; set by hand."""


def _parts(sample: Sample) -> np.ndarray:
    assert sample.mask_path is not None  # every sample in RHD's layout has one
    return read_mask(sample.mask_path)


def _crops(root: Path, split: str) -> Iterator[tuple]:
    for _, group in groupby(read_rhd(root, split, "all"), key=lambda sample: sample.image_path):
        samples = list(group)
        parts = _parts(samples[0])
        hands = [(s.side, s.keypoints_px, s.keypoints_m, s.visible) for s in samples]
        yield samples[0].image(), parts > 0, hand_mask(parts), hands


class StoredScenes:
    """The images of one split with all their hands; each is read from disk when indexed.

    most: how many of them, evenly spread; None for all.
    """

    def __init__(self, root: Path, split: str, most: int | None = None) -> None:
        groups = groupby(read_rhd(root, split, "all"), key=lambda sample: sample.image_path)
        images = [list(group) for _, group in groups]
        self._images = images if most is None else images[:: max(1, -(-len(images) // most))]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledScene:
        samples = self._images[index]
        classes = np.minimum(_parts(samples[0]), HAND).astype(np.uint8)
        return LabelledScene(
            np.dstack([samples[0].image(), classes]),
            np.stack([s.keypoints_px for s in samples]),
            np.array([s.visible.sum() >= _LEAST_VISIBLE for s in samples]),
            np.array([float(s.side == Side.RIGHT) for s in samples]),
            np.zeros((len(samples), NUM_KEYPOINTS)),
        )


def hand_like_windows(most: int | None = None) -> Callable[[np.ndarray], list[Crop]]:
    """Windows of the shipped HandSegNet's detections, in the first `most` images only; None for all."""
    left = itertools.count() if most is None else iter(range(most))
    family = load_family("lite", None, "cpu", "float32")

    def windows(image: np.ndarray) -> list[Crop]:
        if next(left, None) is None:
            return []
        passes = family.passes(image.shape[1], image.shape[0], "thorough", 0)
        found = family.detect(image, passes)[:_MOST_WINDOWS]
        return [d.crop(family.crop_size, family.image_margins.detected[0]) for d in found]

    return windows


@contextmanager
def _one_process(root: Path) -> Iterator[None]:
    """Let other processes of `torchrun` wait until the first has made a pack."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def crop_pack(root: Path, split: str, mined: int | None = None) -> CropPack:
    """The hands of one split, from its pack, which is made if it is missing or of another annotation.

    mined: least number of images that have been searched for hard negatives, None for all.
    """

    def make(folder: Path) -> None:
        pack(_crops(root, split), folder, windows=hand_like_windows(mined))

    return load_pack(_current(root, f"crops_{split}", split, mined, make))


def scene_pack(root: Path, split: str, limit: int = MOST_SCENES) -> ScenePack:
    """The scenes of one split, at most so many, evenly spread, from its pack.

    It is made if it is missing or of another annotation.
    """

    def make(folder: Path) -> None:
        scenes = StoredScenes(root, split)
        chosen = np.linspace(0, len(scenes) - 1, min(limit, len(scenes))).astype(int)
        pack_scenes(((root.name, scenes[int(i)]) for i in chosen), folder)

    return ScenePack(_current(root, f"scenes_{split}", split, limit, make))


def _current(root: Path, name: str, split: str, enough: int | None, make: Callable[[Path], None]) -> Path:
    """The folder of a pack of a split's present annotation, made of at least `enough` images, None for all."""
    folder = root / "packs" / name
    with _one_process(root):
        annotation = hashlib.sha256(annotation_path(root, split).read_bytes()).hexdigest()
        try:
            of, most = json.loads((folder / _MADE_FROM).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            of, most = "", 0
        if of == annotation and (most is None or (enough is not None and most >= enough)):
            return folder
        # A training that runs keeps the files that it has opened.
        partial = folder.with_name(f"{name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            make(partial)
        except BaseException:  # a full disk, say, or Ctrl-C
            shutil.rmtree(partial, ignore_errors=True)
            raise
        (partial / _MADE_FROM).write_text(json.dumps([annotation, enough]), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def poses(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, 21, 3) in metres and sides (N,) of every hand of a split, without reading images.

    Raises InvalidInputError where there is none.
    """
    found = [(s.keypoints_m, int(s.side)) for s in read_rhd(root, split, "all") if s.keypoints_m is not None]
    _check_some(found, [root], split)
    return np.stack([xyz_m for xyz_m, _ in found]), np.array([side for _, side in found])


def dominant_hands(roots: Sequence[Path], split: str) -> list[Sample]:
    """The hand of each image with more pixels, as in the authors' code. Raises InvalidInputError without any."""
    found = [sample for root in roots for sample in _dominant(root, split)]
    _check_some(found, roots, split)
    return found


def _check_some(found: Sequence[Any], roots: Sequence[Path], split: str) -> None:
    if not found:
        raise InvalidInputError(f"no image of the {split} split of {' and '.join(map(str, roots))} shows a hand")


@lru_cache(maxsize=8)
def _dominant(root: Path, split: str) -> list[Sample]:
    """Cached for the next stage: only RHD's masks tell which hand it is."""
    return read_rhd(root, split, "dominant")
