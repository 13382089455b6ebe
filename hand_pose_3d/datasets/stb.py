"""Reader of STB, the Stereo Hand Pose Tracking Benchmark (Zhang et al., ICIP 2017).

Layout: ``labels/B1Counting_BB.mat`` (variable ``handPara``, (3, 21, frames) millimetres in the left camera's frame,
palm centre first, then little finger to thumb, each from base to tip) and ``images/B1Counting/BB_left_0.png`` and
``BB_right_0.png``; the sequence folders may also lie directly in the root. Every hand is a left hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample, missing_data
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import FROM_PAPER, NUM_KEYPOINTS, Side

SOURCE = "https://github.com/zhjwustc/icip17_stereo_hand_pose_dataset"
SEQUENCES = {
    "evaluation": ("B1Counting", "B1Random"),
    "training": tuple(f"B{n}{kind}" for n in range(2, 7) for kind in ("Counting", "Random")),
}
CAMERAS = ("left", "right")
CAMERA = Camera(fx=822.79041, fy=822.79041, cx=318.47345, cy=250.31296, width=640, height=480)
BASELINE_M = 0.120054  # between the lenses (STB's README), as the intrinsics above

_FROM_STB = np.array([0, *range(NUM_KEYPOINTS - 1, 0, -1)])[FROM_PAPER]


def read_stb(root: str | Path, split: str = "evaluation") -> list[Sample]:
    """Samples of both cameras of the stereo pair (BB); evaluation is B1Counting and B1Random, 6000 images.

    Raises InvalidInputError that names what is missing, and where to get it.
    """
    root = Path(root)
    if split not in SEQUENCES:
        raise InvalidInputError(f"STB has the splits evaluation and training, not {split!r}")
    labels = [f"labels/{sequence}_BB.mat" for sequence in SEQUENCES[split]]
    missing = [name for name in labels if not (root / name).is_file()]
    if missing:
        raise missing_data("STB", root, missing, SOURCE)
    samples = []
    for sequence, label in zip(SEQUENCES[split], labels, strict=True):
        samples += _sequence(root, sequence, root / label)
    return samples


def _sequence(root: Path, sequence: str, label: Path) -> list[Sample]:
    keypoints_m = _labels(label)
    folder = root / "images" / sequence
    if not folder.is_dir():
        folder = root / sequence
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = [f"BB_{camera}_{frame}.png" for camera in CAMERAS for frame in range(len(keypoints_m))]
    missing = [f"images/{sequence}/{name}" for name in names if name not in files]
    if missing:
        raise missing_data("STB", root, missing, SOURCE)
    samples = []
    for camera in CAMERAS:
        shifted = keypoints_m - [BASELINE_M if camera == "right" else 0.0, 0.0, 0.0]
        pixels = CAMERA.project(np.where(shifted[..., 2:] > 0, shifted, np.nan))  # nothing lies behind a camera
        for frame in range(len(shifted)):
            name = f"BB_{camera}_{frame}.png"
            samples.append(
                Sample(
                    name=f"{sequence}/{name}",
                    image_path=folder / name,
                    side=Side.LEFT,
                    keypoints_px=pixels[frame],
                    visible=np.isfinite(pixels[frame]).all(axis=-1),
                    keypoints_m=shifted[frame],
                    camera=CAMERA,
                    palm=True,
                )
            )
    return samples


def _labels(path: Path) -> np.ndarray:
    """(frames, 21, 3) metres in public order."""
    from scipy.io import loadmat

    try:
        labels = np.asarray(loadmat(str(path))["handPara"], dtype=float)
    except Exception as error:  # scipy's readers of damaged files raise nearly anything
        raise InvalidInputError(f"{path} is not an STB label file: {error}") from error
    if labels.ndim == 2:
        labels = labels[:, :, None]
    if labels.ndim != 3 or labels.shape[:2] != (3, NUM_KEYPOINTS):
        raise InvalidInputError(f"{path} is not an STB label file: handPara is {labels.shape}, not (3, 21, frames)")
    return labels.transpose(2, 1, 0)[:, _FROM_STB] / 1000.0
