"""Writes frames and annotations in the layout of :mod:`hand_pose_3d.datasets.rhd`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.datasets.rhd import DEPTH_RANGE_M, LEFT_CLASSES, PERSON_CLASS, annotation_name
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.outputs import replacing
from hand_pose_3d.skeleton import FROM_PAPER, TO_PAPER, Side

_BELOW_M = np.array([0.034, *[0.022, 0.022, 0.022, 0.03] * 5])[:, None, None]
"""Largest depth of each keypoint below the skin, metres, in the paper's order: wrist, then tips to bases. Chosen by the
thickness of the rendered hands."""
_AROUND = np.arange(-1, 2)  # rows and columns around a keypoint in which its surface is looked for, pixels
_PARTS_AT = [(1, 17)] + [
    tuple(p for p in (2 + 3 * finger + joint, 1 + 3 * finger + joint) if 2 + 3 * finger <= p <= 4 + 3 * finger)
    + ((17,) if joint == 3 else ())
    for finger in range(5)
    for joint in range(4)
]
"""Classes (of a left hand) that meet at each keypoint in the paper's order."""
_SHOWS = {side: np.zeros((21, 256), bool) for side in (Side.LEFT, Side.RIGHT)}
for _k, _parts in enumerate(_PARTS_AT):
    for _p in _parts:
        _SHOWS[Side.LEFT][_k, _p] = True
        _SHOWS[Side.RIGHT][_k, _p + len(LEFT_CLASSES) * (_p in LEFT_CLASSES)] = True


def annotation(
    keypoints_m: Sequence[tuple[Side, np.ndarray]],
    intrinsics: np.ndarray,
    label: np.ndarray,
    depth_m: np.ndarray,
    mesh: np.ndarray,
) -> dict[str, Any]:
    """RHD's record of one frame.

    keypoints_m: side and (21, 3) of each arm in public order, camera frame. label: (H, W) classes. depth_m: (H, W),
    0 = far. mesh: (H, W) which arm is seen, from 1 on.
    A keypoint is visible where a part that meets at it is what the depth picture shows there, at about its distance.
    """
    uv_vis, xyz = np.zeros((42, 3), np.float32), np.zeros((42, 3), np.float32)
    hands: list[dict[str, Any]] = []
    most = {Side.LEFT: -1, Side.RIGHT: -1}
    for number, (side, points) in enumerate(keypoints_m, 1):
        own = np.where(mesh == number, label, 0).astype(label.dtype)
        projected = points @ intrinsics.T
        uv = projected[:, :2] / projected[:, 2:]
        shown = visible(uv[TO_PAPER], points[TO_PAPER, 2], side, own, depth_m)
        pixels = int((own > PERSON_CLASS).sum())
        hands.append(
            {
                "side": side.label,
                "uv": uv.astype(np.float32),
                "xyz": points.astype(np.float32),
                "visible": shown[FROM_PAPER] > 0,
                "pixels": pixels,
            }
        )
        if pixels > most[side]:
            most[side] = pixels
            place = slice(0, 21) if side is Side.LEFT else slice(21, 42)
            uv_vis[place], xyz[place] = np.c_[uv[TO_PAPER], shown], points[TO_PAPER]
    return {"uv_vis": uv_vis, "xyz": xyz, "K": intrinsics.astype(np.float32), "hands": hands}


def visible(uv: np.ndarray, depth: np.ndarray, side: Side, label: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """(21,) 1 where the surface of a part that meets at the keypoint lies close in front of it, else 0."""
    height, width = label.shape
    column, row = np.round(uv).astype(int).T[..., None, None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    window = np.clip(row + _AROUND[:, None], 0, height - 1), np.clip(column + _AROUND, 0, width - 1)  # (21, 3, 3)
    near = depth_m[window] > depth[:, None, None] - _BELOW_M
    shows = _SHOWS[side][np.arange(21)[:, None, None], label[window]]
    return (inside & shows & near).any(axis=(1, 2)).astype(float)


def write_frame(folder: Path, index: int, colour: np.ndarray, label: np.ndarray, depth_m: np.ndarray) -> None:
    """Write the three pictures of a frame."""
    import cv2
    import fpng  # five times as fast as OpenCV's PNGs, which took a seventh of a frame's time

    far = cv2.compare(depth_m, 0, cv2.CMP_EQ)
    level = (np.minimum(depth_m, DEPTH_RANGE_M) * np.float32(65535 / DEPTH_RANGE_M) + np.float32(0.5)).astype("<u2")
    low, high = cv2.split(level.view(np.uint8).reshape(*level.shape, 2))
    grey = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    pictures = {
        "color": fpng.from_ndarray(np.ascontiguousarray(colour)),
        "depth": fpng.from_ndarray(cv2.merge([high | far, low | far, np.zeros_like(far)])),
        "mask": cv2.imencode(".png", label, grey)[1].tobytes(),
    }
    for name, data in pictures.items():
        path = folder / name / f"{index:05d}.png"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise HandPoseError(f"{path} could not be written: {error.strerror}") from error


def write_annotation(folder: Path, records: dict[int, dict[str, Any]]) -> Path:
    """Write anno_<split>.pickle, sorted by index."""
    path = folder / annotation_name(folder.name)
    with replacing(path) as stream:
        pickle.dump({i: records[i] for i in sorted(records)}, stream, protocol=2)
    return path
