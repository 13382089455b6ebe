"""Reader of folders with a keypoints.json: photographs with 21 keypoints each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample, check_images, points_from, read_list, reading, side_of
from hand_pose_3d.skeleton import NUM_KEYPOINTS


def read_keypoints(root: str | Path) -> list[Sample]:
    """Samples of a folder with keypoints.json.

    The file holds ``{"labels": ..., "samples": [{"image", "side", "keypoints_2d" 21x[u, v] in pixels, and
    optionally "keypoints" 21x[x, y, z] in metres in the camera frame, "K" 3x3, "visible" 21x bool, "width" and "height"
    of the image}]}``; keypoints in public order, image paths relative to the folder. Raises InvalidInputError for
    anything else, and for images that are not there.
    """
    root = Path(root)
    path = root / "keypoints.json"
    samples = []
    for index, entry in enumerate(read_list(path, "samples")):
        name = f" ({entry.get('image', '')})" if isinstance(entry, dict) else ""
        with reading(f"sample {index}{name} of {path}"):
            samples.append(_sample(root, entry))
    check_images(root, path.name, {sample.name: sample.image_path for sample in samples})
    return samples


def _sample(root: Path, entry: dict[str, Any]) -> Sample:
    if not isinstance(entry, dict):
        raise TypeError(f"it is of type {type(entry).__name__}, not an object with image and keypoints_2d")
    if not isinstance(entry["image"], str):
        raise TypeError(f"image is {entry['image']!r}, not a path")
    keypoints = points_from("keypoints_2d", entry["keypoints_2d"], 2)
    metric = None if entry.get("keypoints") is None else points_from("keypoints", entry["keypoints"], 3)
    size = {"width": int(entry.get("width", 0)), "height": int(entry.get("height", 0))}
    if any(size.values()) and min(size.values()) < 1:
        raise ValueError("width and height come together, and are positive")
    flags = entry.get("visible", [True] * NUM_KEYPOINTS)
    if not isinstance(flags, list) or len(flags) != NUM_KEYPOINTS or any(each not in (0, 1) for each in flags):
        raise ValueError(f"visible must be a list of 21 true or false, not {flags!r}")
    visible = np.array(flags, dtype=bool)
    shown = keypoints[visible & np.isfinite(keypoints).all(axis=-1)]
    if not len(shown) or not np.ptp(shown, axis=0).any():
        raise ValueError("a hand needs two visible keypoints at different places")
    known = np.zeros((0, 3)) if metric is None else metric[np.isfinite(metric).all(axis=-1)]
    if len(known) and not np.ptp(known, axis=0).any():
        raise ValueError("all its keypoints are at one place")
    return Sample(
        name=entry["image"],
        image_path=root / entry["image"],
        side=side_of(entry),
        keypoints_px=keypoints,
        visible=visible & np.isfinite(keypoints).all(axis=-1),
        keypoints_m=metric,
        camera=Camera.from_matrix(np.array(entry["K"]), **size) if entry.get("K") is not None else None,
        size=(size["width"], size["height"]) if any(size.values()) else None,
    )
