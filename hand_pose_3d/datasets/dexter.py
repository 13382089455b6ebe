"""Reader of Dexter+Object (Sridhar et al., ECCV 2016): fingertips and cuboid corners of a left hand with a cuboid.

Layout: ``data/Grasp1/color/*.png``, ``data/Grasp1/depth/*.png`` and ``data/Grasp1/annotations/Grasp13D.txt``: a
line a frame, ``x, y, z;`` in millimetres for thumb to little fingertip, then three corners of the cuboid, in the depth
camera's frame with x and y pointing left and up; a z of 32001 means that the point was not labelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample, missing_data
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import FINGERTIPS, NUM_KEYPOINTS, Side

SOURCE = "https://handtracker.mpi-inf.mpg.de/projects/RealtimeHO/dexter+object.htm"
SEQUENCES = ("Grasp1", "Grasp2", "Occlusion", "Rigid", "Pinch", "Rotate")
COLOUR_CAMERA = Camera(fx=587.45209, fy=600.67456, cx=325.0, cy=249.0, width=640, height=480)
ROTATION_COLOUR_DEPTH = np.array([[0.9999, 0.0034, 0.0161], [-0.0033, 1.0, -0.0079], [-0.0162, 0.0079, 0.9998]])
TRANSLATION_COLOUR_DEPTH_M = np.array([0.0190473, -0.0018514, -0.0047501])
NOT_LABELLED = 32001  # millimetres


def read_dexter(root: str | Path, sequences: tuple[str, ...] = SEQUENCES) -> list[Sample]:
    """Samples with the five fingertips; the other keypoints are nan and not visible.

    keypoints_m and keypoints_px belong to the colour image. Raises InvalidInputError that names what is missing.
    """
    root = Path(root)
    labels = [f"data/{name}/annotations/{name}3D.txt" for name in sequences]
    missing = [name for name in labels if not (root / name).is_file()]
    if missing:
        raise missing_data("Dexter+Object", root, missing, SOURCE)
    return [s for name, label in zip(sequences, labels, strict=True) for s in _sequence(root, name, root / label)]


def _sequence(root: Path, name: str, label: Path) -> list[Sample]:
    points_m = _to_colour(_labels(label))
    images = sorted((root / "data" / name / "color").glob("*.png"))
    if len(images) != len(points_m):
        what = f"data/{name}/color with {len(points_m)} images, one per line of {label.name} (it has {len(images)})"
        raise missing_data("Dexter+Object", root, [what], SOURCE)
    samples = []
    for image, points in zip(images, points_m, strict=True):
        keypoints_m = np.full((NUM_KEYPOINTS, 3), np.nan)
        keypoints_m[list(FINGERTIPS)] = points[:5]
        labelled = np.isfinite(keypoints_m).all(axis=-1) & (keypoints_m[:, 2] > 0)
        keypoints_px = np.full((NUM_KEYPOINTS, 2), np.nan)
        if labelled.any():
            keypoints_px[labelled] = COLOUR_CAMERA.project(keypoints_m[labelled])
        inside = np.all((keypoints_px >= 0) & (keypoints_px <= [639, 479]), axis=-1)
        sample = Sample(
            name=f"{name}/{image.name}",
            image_path=image,
            side=Side.LEFT,
            keypoints_px=keypoints_px,
            visible=labelled & inside,
            keypoints_m=keypoints_m,
            camera=COLOUR_CAMERA,
        )
        samples.append(sample)
    return samples


def _labels(path: Path) -> np.ndarray:
    """(frames, points, 3) metres in the depth camera's optical frame, nan where not labelled."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            points = [[float(value) for value in point.split(",")] for point in line.split(";") if point.strip()]
            rows.append(np.array(points, dtype=float))
            if rows[-1].shape[0] < 5 or rows[-1].shape[1:] != (3,) or rows[-1].shape != rows[0].shape:
                raise ValueError(f"{len(points)} points")
        except ValueError as error:
            raise InvalidInputError(
                f"line {number} of {path} is not 'x, y, z;' for at least five points, as many in each line: {error}"
            ) from error
    if not rows:
        raise InvalidInputError(f"{path} holds no frames")
    points_mm = np.stack(rows)
    points_mm[np.isclose(points_mm[..., 2], NOT_LABELLED)] = np.nan
    return points_mm * [-1e-3, -1e-3, 1e-3]


def _to_colour(points_m: np.ndarray) -> np.ndarray:
    return points_m @ ROTATION_COLOUR_DEPTH.T + TRANSLATION_COLOUR_DEPTH_M
