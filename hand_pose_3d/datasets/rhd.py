"""Reader of RHD, the Rendered Hand Pose Dataset (Zimmermann & Brox, ICCV 2017), and of our own renders.

The layout is stated here, and :mod:`hand_pose_3d.rendering.rhd_writer` writes it:
``{training,evaluation}/{color,mask,depth}/00000.png``, masks of 33 classes, depth in metres as (256 R + G) / 65535 * 5,
and ``{split}/anno_{split}.pickle``, a dict ``{index: {"uv_vis": (42, 3), "xyz": (42, 3) metres, "K": (3, 3)}}`` with
the left hand's 21 keypoints first, in the paper's order (wrist, then each finger from tip to base). A hand that is not
in the scene has zeros; of several left or right hands that with the most pixels is there. Our renders have one key
more, "hands", which lists all hands of the scene as dicts: "side" ("left" or "right"), "uv" (21, 2) pixels, "xyz"
(21, 3) metres in camera axes, "visible" (21,) bool, all in the public keypoint order, and "pixels" (int), how many
pixels show it: 0 for one that is hidden or outside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample, missing_data
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import read_pixels
from hand_pose_3d.pickles import load_arrays
from hand_pose_3d.skeleton import FROM_PAPER, NUM_KEYPOINTS, Side

SOURCE = "https://lmb.informatik.uni-freiburg.de/resources/datasets/RenderedHandposeDataset.en.html"
SPLITS = ("training", "evaluation")
FOLDERS = ("color", "mask", "depth")
RENDERED = Path("parts", "identity.json")
"""File in the folder of a split that `hand_pose_3d render` made."""
PERSON_CLASS, LEFT_CLASSES, RIGHT_CLASSES = 1, range(2, 18), range(18, 34)
"""Classes of a mask; 0 is the background."""
DEPTH_RANGE_M = 5.0  # metres at the largest of 16 bits (RHD's README)


def read_rhd(
    root: str | Path, split: str = "evaluation", hands: Literal["dominant", "all"] = "dominant"
) -> list[Sample]:
    """Samples of one split.

    hands: 'dominant' gives one hand per image, that with more pixels in the mask (the authors' rule; of two with as
    many the right one in RHD, the first one listed in renders); 'all' gives all hands of which any keypoint is visible.
    Keypoints stay at the wrist. Images without a pixel of a hand, which RHD does not have and renders may, have no
    dominant hand.
    Raises InvalidInputError that names what is missing, and where to get it.
    """
    root = Path(root)
    annotations = _annotations(root, split)
    folder = root / split
    names = {kind: _png_names(folder / kind) for kind in FOLDERS}
    wanted = [f"{index:05d}.png" for index in sorted(annotations)]
    missing = [f"{split}/{kind}/{name}" for kind in ("color", "mask") for name in wanted if name not in names[kind]]
    if missing:
        raise missing_data("RHD", root, missing, _source(root, split))

    samples: list[Sample] = []
    for index, name in zip(sorted(annotations), wanted, strict=True):
        record = annotations[index]
        found = [_sample(record, hand, folder, name, name in names["depth"]) for hand in _hands(record)]
        if hands == "all":
            samples += [sample for sample in found if sample.visible.any()]
            continue
        if "hands" in record:
            pixels = [int(hand["pixels"]) for hand in record["hands"]]
        else:
            mask = read_mask(folder / "mask" / name)
            pixels = [int(np.isin(mask, classes).sum()) for classes in (LEFT_CLASSES, RIGHT_CLASSES)]
            pixels[1] += pixels[0] == pixels[1] > 0  # of two with as many the right one
        if any(pixels):
            samples.append(found[int(np.argmax(pixels))])
    return samples


def read_mask(path: str | Path) -> np.ndarray:
    """Classes of a mask, (H, W) uint8."""
    import cv2

    return read_pixels(path, cv2.IMREAD_GRAYSCALE)


def hand_mask(mask: np.ndarray) -> np.ndarray:
    """Pixels of hands in a mask of part labels, (H, W) bool."""
    return mask > PERSON_CLASS


def read_depth(path: str | Path) -> np.ndarray:
    """Depth in metres, (H, W) float32. RHD spreads 16 bits over the red (high) and green (low) channels."""
    import cv2

    image = read_pixels(path, cv2.IMREAD_COLOR)
    high, low = image[:, :, 2].astype(np.float32), image[:, :, 1].astype(np.float32)
    return (high * 256 + low) / np.float32(2**16 - 1) * np.float32(DEPTH_RANGE_M)


def annotation_name(split: str) -> str:
    """Name of the annotation file in a split's folder."""
    return f"anno_{split}.pickle"


def annotation_path(root: str | Path, split: str) -> Path:
    """A split's annotation file. Raises InvalidInputError where there is none."""
    if split not in SPLITS:
        raise InvalidInputError(f"RHD has the splits training and evaluation, not {split!r}")
    relative = f"{split}/{annotation_name(split)}"
    path = Path(root) / relative
    if not path.is_file():
        raise missing_data("RHD", Path(root), [relative], _source(Path(root), split))
    return path


def _source(root: Path, split: str) -> str:
    """Where a split that is not complete comes from."""
    if (root / split / RENDERED).exists():
        return f"`hand_pose_3d render`, after {root / split} is deleted"
    if any((root / other / RENDERED).exists() for other in SPLITS):
        return f"`hand_pose_3d render --out {root} --split {split}`"
    return SOURCE


def _annotations(root: Path, split: str) -> dict[int, dict[str, Any]]:
    path = annotation_path(root, split)
    try:
        with path.open("rb") as file:
            data = load_arrays(file)
    except Exception as error:
        raise InvalidInputError(f"{path} is not an RHD annotation file: {error}") from error
    if not isinstance(data, dict) or not data:
        raise InvalidInputError(f"{path} is not an RHD annotation file: it holds no dict of images")
    for index, record in data.items():
        try:
            _check_record(index, record)
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else error
            raise InvalidInputError(f"{path} is not an RHD annotation file: image {index!r}: {what}") from error
    return data


def _check_record(index: Any, record: Any) -> None:
    """Raise KeyError, TypeError or ValueError unless a record of the annotation is as stated above."""
    if not isinstance(index, (int, np.integer)) or index < 0:
        raise ValueError("images are numbered from 0")
    _check_array("K", record["K"], (3, 3))
    Camera.from_matrix(record["K"])
    if "hands" not in record:
        _check_array("uv_vis", record["uv_vis"], (2 * NUM_KEYPOINTS, 3))
        _check_array("xyz", record["xyz"], (2 * NUM_KEYPOINTS, 3))
        return
    for hand in record["hands"]:
        if hand["side"] not in ("left", "right"):
            raise ValueError(f"a hand's side is left or right, not {hand['side']!r}")
        _check_array("uv", hand["uv"], (NUM_KEYPOINTS, 2))
        _check_array("xyz", hand["xyz"], (NUM_KEYPOINTS, 3))
        _check_array("visible", hand["visible"], (NUM_KEYPOINTS,))
        if int(hand["pixels"]) < 0:
            raise ValueError(f"a hand's pixels are at least 0, not {hand['pixels']}")


def _check_array(name: str, value: Any, shape: tuple[int, ...]) -> None:
    found = np.asarray(value, float)
    if found.shape != shape:
        raise ValueError(f"{name} has the shape {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds numbers that are not finite")


def _png_names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.png")} if folder.is_dir() else set()


def _hands(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The hands of an image, as the renders' key "hands" has them."""
    if "hands" in record:
        return list(record["hands"])
    order = np.concatenate([FROM_PAPER, NUM_KEYPOINTS + FROM_PAPER])
    uv_vis, xyz = (
        np.asarray(record[key], dtype=float)[order].reshape(2, NUM_KEYPOINTS, 3) for key in ("uv_vis", "xyz")
    )
    return [
        {"side": side, "uv": points[:, :2], "xyz": metric, "visible": points[:, 2] > 0.5}
        for side, points, metric in zip(("left", "right"), uv_vis, xyz)
    ]


def _sample(record: dict[str, Any], hand: dict[str, Any], folder: Path, name: str, has_depth: bool) -> Sample:
    return Sample(
        name=f"{folder.name}/{name}",
        image_path=folder / "color" / name,
        side=Side[hand["side"].upper()],
        keypoints_px=np.asarray(hand["uv"], dtype=float),
        visible=np.asarray(hand["visible"], dtype=bool),
        keypoints_m=np.asarray(hand["xyz"], dtype=float),
        camera=Camera.from_matrix(record["K"]),
        mask_path=folder / "mask" / name,
        depth_path=folder / "depth" / name if has_depth else None,
    )
