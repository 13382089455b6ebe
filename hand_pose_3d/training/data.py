"""From data sets in RHD's layout to packs, made beside them the first time they are trained on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.datasets.rhd import hand_mask, read_mask, read_rhd
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.families import first_crop, load_family
from hand_pose_3d.training.crops import CropPack, load_pack, pack
from hand_pose_3d.training.scenes import ScenePack, load_scenes, pack_scenes


def _parts(sample: Sample) -> np.ndarray:
    assert sample.mask_path is not None  # every sample in RHD's layout has one
    return read_mask(sample.mask_path)


def _crops(root: Path, split: str) -> Iterator[tuple]:
    for _, group in groupby(read_rhd(root, split, "all"), key=lambda sample: sample.image_path):
        samples = list(group)
        parts = _parts(samples[0])
        hands = [(s.side, s.keypoints_px, s.keypoints_m, s.visible) for s in samples]
        yield samples[0].image(), parts > 0, hand_mask(parts), hands


def _scenes(root: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for _, group in groupby(read_rhd(root, split, "all"), key=lambda sample: sample.image_path):
        sample = next(group)
        yield sample.image(), _parts(sample)


def _windows() -> Callable[[np.ndarray], list[Crop]]:
    """Where the shipped HandSegNet has hands looked for."""
    import torch

    family = load_family("lite", None, torch.device("cpu"), torch.float32)
    return lambda image: [first_crop(region, family) for region in family.segment(image, 2).regions(2)]


@contextmanager
def _one_process(root: Path) -> Iterator[None]:
    """Other processes of `torchrun`, which want the same pack, wait here until the first has made it."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def crop_pack(root: Path, split: str) -> CropPack:
    """The hands of one split, from its pack; made if it is not there yet."""
    folder = root / "packs" / f"crops_{split}"
    with _one_process(root):
        if not (folder / "labels.npz").exists():
            count = len(read_rhd(root, split, "all"))
            pack(_crops(root, split), folder, count, windows=_windows())
    return load_pack(folder)


def scene_pack(root: Path, split: str, limit: int = 20_000) -> ScenePack:
    """The first scenes of one split, from its pack; made if it is not there yet."""
    folder = root / "packs" / f"scenes_{split}"
    with _one_process(root):
        if not (folder / "scenes.npy").exists():
            count = len({sample.image_path for sample in read_rhd(root, split, "all")})
            pack_scenes(_scenes(root, split), folder, min(count, limit))
    return load_scenes(folder)


def poses(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, 21, 3) in metres and sides (N,) of every hand of a split; its pictures are not read."""
    found = [(s.keypoints_m, int(s.side)) for s in read_rhd(root, split, "all") if s.keypoints_m is not None]
    return np.stack([xyz_m for xyz_m, _ in found]), np.array([side for _, side in found])


def dominant_hands(roots: Sequence[Path], split: str) -> list[Sample]:
    """The hand of each image that shows more of itself, as the authors choose it."""
    return [sample for root in roots for sample in read_rhd(root, split, "dominant")]
