"""Reader of FreiHAND (Zimmermann et al., ICCV 2019), whose hands are all right hands.

Layout: ``training/rgb/00000000.jpg`` with ``training_xyz.json`` and ``training_K.json`` (each picture in four versions
with different backgrounds; labels for the first), and ``evaluation/rgb`` with ``evaluation_xyz.json`` and
``evaluation_K.json`` (these labels were published later).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample, missing_data, read_json
from hand_pose_3d.errors import InvalidInputError, naming
from hand_pose_3d.skeleton import NUM_KEYPOINTS, Side

SOURCE = "https://lmb.informatik.uni-freiburg.de/resources/datasets/FreihandDataset.en.html"
SPLITS = ("training", "evaluation")


def read_freihand(root: str | Path, split: str = "evaluation") -> list[Sample]:
    """Samples of one split; pixels are the projection of the metric keypoints by K.

    Of the four versions of a training picture the first, with its green screen, is taken.
    Raises InvalidInputError that names what is missing, and where to get it.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InvalidInputError(f"FreiHAND has the splits training and evaluation, not {split!r}")
    missing = [name for name in (f"{split}_K.json", f"{split}_xyz.json") if not (root / name).is_file()]
    if missing:
        raise missing_data("FreiHAND", root, missing, SOURCE)
    matrices, keypoints_m = (
        _array(root / f"{split}_K.json", (3, 3)),
        _array(root / f"{split}_xyz.json", (NUM_KEYPOINTS, 3)),
    )
    if len(matrices) != len(keypoints_m):
        raise InvalidInputError(
            f"{split}_K.json has {len(matrices)} entries and {split}_xyz.json {len(keypoints_m)}: "
            "they do not belong together"
        )
    folder = root / split / "rgb"
    files = {path.name for path in folder.glob("*.jpg")} if folder.is_dir() else set()
    names = [f"{index:08d}.jpg" for index in range(len(matrices))]
    absent = [f"{split}/rgb/{name}" for name in names if name not in files]
    if absent:
        raise missing_data("FreiHAND", root, absent, SOURCE)
    samples = []
    for name, matrix, points in zip(names, matrices, keypoints_m, strict=True):
        with naming(f"{split}_K.json, {name}"):
            camera = Camera.from_matrix(matrix, width=224, height=224)
        pixels = camera.project(np.where(points[:, 2:] > 0, points, np.nan))  # nothing lies behind a camera
        samples.append(
            Sample(
                name=f"{split}/{name}",
                image_path=folder / name,
                side=Side.RIGHT,
                keypoints_px=pixels,
                visible=np.isfinite(pixels).all(axis=-1),
                keypoints_m=points,
                camera=camera,
            )
        )
    return samples


def _array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    data = read_json(path)
    try:
        values = np.array(data, dtype=float)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    if values.ndim != 3 or values.shape[1:] != shape:
        raise InvalidInputError(
            f"{path} is not a FreiHAND label file: it must list {shape[0]} x {shape[1]} numbers for each image"
        )
    return values
