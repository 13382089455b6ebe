"""Sample, the one record that every data set reader returns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import NUM_KEYPOINTS, Side


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled hand in one image; an image with two hands may give two samples.

    name: identifies the sample in reports. keypoints_px: (21, 2) pixels in public order, nan where there is
    no label. visible: (21,) bool, False where hidden, outside or not labelled.
    keypoints_m: (21, 3) metres in the camera frame, or None. camera: intrinsics, or None.
    palm: keypoint 0 is labelled at the palm's centre, not at the wrist.
    mask_path, depth_path: further files of the image where the data set has them. size: (width, height) that the
    labels say the image has, None where they do not.
    """

    name: str
    image_path: Path
    side: Side
    keypoints_px: np.ndarray
    visible: np.ndarray
    keypoints_m: np.ndarray | None = None
    camera: Camera | None = None
    palm: bool = False
    mask_path: Path | None = None
    depth_path: Path | None = None
    size: tuple[int, int] | None = None

    def image(self) -> np.ndarray:
        """The image, (H, W, 3) uint8 RGB. Raises InvalidInputError when it cannot be read or has another size."""
        from hand_pose_3d.images import read_image

        image = read_image(self.image_path)
        height, width = image.shape[:2]
        if self.size is not None and self.size != (width, height):
            says = "x".join(map(str, self.size))
            raise InvalidInputError(f"{self.image_path} has {width}x{height} pixels, its label says {says}")
        return image


def missing_data(name: str, root: Path, missing: Sequence[str], source: str) -> InvalidInputError:
    """The error for an incomplete data set: what is not there, and where to get it."""
    return InvalidInputError(f"{root} is not a complete {name}: it lacks {_first(missing)}; get it from {source}")


def check_images(root: Path, listing: str, images: Mapping[str, Path]) -> None:
    """Raise InvalidInputError where images that a file of the folder lists are not there. images: path by name."""
    missing = [name for name, path in images.items() if not path.is_file()]
    if missing:
        raise InvalidInputError(f"{root} lacks images that {listing} lists: {_first(missing)}")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise InvalidInputError with this name for what is missing or malformed in an entry of a label file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInputError(f"{what} is malformed: {reason}") from error


def side_of(entry: Mapping[str, Any]) -> Side:
    """The side of a labelled hand, unknown where it is left out. Raises ValueError for anything else."""
    name = str(entry.get("side", "unknown")).upper()
    if name not in Side.__members__:
        raise ValueError(f"side must be left, right or unknown, not {entry['side']!r}")
    return Side[name]


def points_from(name: str, value: Any, axes: int) -> np.ndarray:
    """Labelled keypoints, (21, axes), NaN for a null. Raises ValueError for anything else."""
    try:
        points = np.array([[np.nan] * axes if point is None else point for point in value], dtype=float)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.shape != (NUM_KEYPOINTS, axes):
        raise ValueError(
            f"{name} must be {NUM_KEYPOINTS} points of {axes} numbers, and is not ({NUM_KEYPOINTS}, {axes})"
        )
    return points


def box_from(value: Any) -> np.ndarray:
    """A labelled box, (4,) x, y, width, height. Raises ValueError for anything else."""
    try:
        box = np.array(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all() or not (box[2:] > 0).all():
        raise ValueError(f"box must be [x, y, width, height] with positive sizes, not {value!r}")
    return box


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises InvalidInputError where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # with a byte order mark or without
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}, which that folder must hold: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not JSON: {error}") from error


def read_list(path: Path, name: str) -> list[Any]:
    """The list of this name in a JSON file. Raises InvalidInputError where there is none."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get(name), list):
        raise InvalidInputError(f"{path} has no list named {name}")
    return data[name]
