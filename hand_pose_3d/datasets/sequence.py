"""Reader of folders with videos in which every hand is labelled in every frame.

Beside NAME.mp4 (or another video) lies NAME.json: ``{"camera": {"fx", "fy", "cx", "cy", "width", "height"}, "fps",
"frames": [{"hands": [{"id", "side", "keypoints_2d", "keypoints", "box", "ignore"}]}]}`` with one entry for each frame.
A hand needs ``keypoints_2d``, 21 x [u, v] pixels, or ``box``, [x, y, width, height]. Optional: ``camera``;
``keypoints``, 21 x [x, y, z] metres in camera axes; ``side`` left, right or unknown; ``id``, a whole number that stays
with a hand (one for each side where it is left out); ``ignore``, it need not be found (false). Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import box_from, points_from, read_json, reading, side_of
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import VIDEO_SUFFIXES, Video
from hand_pose_3d.skeleton import Side


@dataclass(frozen=True, eq=False)
class SequenceHand:
    """One labelled hand of a frame.

    identity: stays with the hand. box_px: (4,) x, y, width, height. keypoints_px: (21, 2), keypoints_m: (21, 3), or
    None where they are not labelled. ignore: need not be found.
    """

    identity: int
    side: Side
    box_px: np.ndarray
    keypoints_px: np.ndarray | None = None
    keypoints_m: np.ndarray | None = None
    ignore: bool = False


@dataclass(frozen=True, eq=False)
class Sequence:
    """One video and the hands of each of its frames. camera: None where it is not known."""

    path: Path
    fps: float
    camera: Camera | None
    frames: tuple[tuple[SequenceHand, ...], ...]

    @cached_property
    def longer_side_px(self) -> int:
        """Of its pictures, which a camera of the same shape may give in another size."""
        return max(next(self.images()).shape[:2])

    def images(self) -> Iterator[np.ndarray]:
        """The frames, (H, W, 3) uint8 RGB. Raises InvalidInputError unless there are as many as labels."""
        count = 0
        for image in Video(self.path):
            count += 1
            if count <= len(self.frames):
                yield image
        if count != len(self.frames):
            raise InvalidInputError(f"{self.path} has {count} frames, the file beside it labels {len(self.frames)}")


def read_sequences(root: str | Path) -> list[Sequence]:
    """Labelled videos of a folder, by name.

    Raises InvalidInputError that names what is missing or malformed.
    """
    root = Path(root)
    try:
        videos = sorted(path for path in root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    except OSError as error:
        raise InvalidInputError(f"cannot read the folder {root}: {error.strerror}") from error
    labelled = [path for path in videos if path.with_suffix(".json").is_file()]
    if not labelled:
        raise InvalidInputError(f"{root} holds no video, NAME.mp4, with a NAME.json beside it")
    return [_sequence(path) for path in labelled]


def _sequence(path: Path) -> Sequence:
    labels = path.with_suffix(".json")
    data = read_json(labels)
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise InvalidInputError(f"{labels} has no list named frames with entries")
    fps = data.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 1000:
        raise InvalidInputError(f"{labels} must have fps, from above 0 to 1000, not {fps!r}")
    given = data.get("camera")
    with reading(f"camera of {labels}"):
        if given is not None and not isinstance(given, dict):
            raise TypeError("it is not an object with fx, fy, cx, cy, width and height")
        camera = None if given is None else Camera(**given)
    frames = []
    for index, frame in enumerate(data["frames"]):
        with reading(f"frame {index} of {labels}"):
            if not isinstance(frame, dict) or not isinstance(frame["hands"], list):
                raise TypeError("it is not an object with a list named hands")
            hands = tuple(_hand(entry) for entry in frame["hands"])
            if len({hand.identity for hand in hands}) < len(hands):
                raise ValueError("two hands have one id")
        frames.append(hands)
    return Sequence(path, float(fps), camera, tuple(frames))


def _hand(entry: Any) -> SequenceHand:
    if not isinstance(entry, dict):
        raise TypeError(f"a hand must be an object, not {str(entry)[:40]!r}")
    side = side_of(entry)
    identity, ignore = entry.get("id", int(side)), entry.get("ignore", False)
    if type(identity) is not int or not isinstance(ignore, bool):
        raise ValueError("id must be a whole number and ignore true or false")
    pixels, metres = _points(entry, "keypoints_2d", 2), _points(entry, "keypoints", 3)
    if "box" in entry:
        box = box_from(entry["box"])
    elif pixels is not None:
        box = np.concatenate([pixels.min(axis=0), np.ptp(pixels, axis=0)])
        if not box[2:].all():
            raise ValueError("keypoints_2d must span an area, for they are the hand's box")
    else:
        raise ValueError("a hand needs keypoints_2d or box")
    return SequenceHand(identity, side, box, pixels, metres, ignore)


def _points(entry: dict[str, Any], name: str, axes: int) -> np.ndarray | None:
    if entry.get(name) is None:
        return None
    points = points_from(name, entry[name], axes)
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be 21 points of {axes} finite numbers")
    return points
