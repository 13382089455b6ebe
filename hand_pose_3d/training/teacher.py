"""The teacher, MediaPipe Hands (Apache-2.0), on several views of each photograph, and the consensus of its results."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.metrics import box_of
from hand_pose_3d.images import read_image
from hand_pose_3d.tracking import similarity

VIEW_PX = 512
"""Longer side of a view for the teacher, pixels."""
_SAME = 0.45
"""Keypoint similarity from which on two predictions are of one hand; set by hand."""
_LEAST_VIEWS, _LEAST_SHARE, _MOST_SPREAD = 2, 0.35, 0.08
"""A hand is sure if this number of views, and this share of those that could show it, agree on it, and keypoints differ
by no more than this share of its extent in the mean. Set by hand."""
_MOST_DEPTH_SPREAD = 0.06
"""Median difference of depths between views over the extent above which the teacher's depth is not used; set by hand.
"""


@dataclass(frozen=True)
class TeacherHand:
    """What views of one photograph agree on. keypoints_px: (21, 2) medians; spread: (21,) median distance from them
    over the extent; right: share of views that call it right; sure: whether to learn from it; depth_px: (21,) pixels
    behind the wrist, None where views differ too much; boxed: only its box is known."""

    keypoints_px: np.ndarray
    spread: np.ndarray
    right: float
    sure: bool
    depth_px: np.ndarray | None = None
    boxed: bool = False


def views(width: int, height: int) -> list[tuple[float, float, float, float, bool]]:
    """Parts (x, y, w, h, mirrored) of a photograph: whole, mirrored, with a border, 2 x 2 and 3 x 3 tiles."""
    parts = [(0.0, 0.0, 1.0, False), (0.0, 0.0, 1.0, True), (-0.3, -0.3, 1.6, False)]
    parts += [(x, y, 0.6, False) for x in (0.0, 0.4) for y in (0.0, 0.4)]
    parts += [(x, y, 0.4, False) for x in (0.0, 0.3, 0.6) for y in (0.0, 0.3, 0.6)]
    return [(x * width, y * height, size * width, size * height, mirrored) for x, y, size, mirrored in parts]


def label(folder: Path, out: Path) -> None:
    """Write one line of JSON a photograph: every hand that the teacher finds in every view."""
    import cv2
    from mediapipe.python.solutions.hands import Hands
    from tqdm import tqdm

    done = set()
    for number, line in enumerate(out.open() if out.exists() else (), 1):
        try:
            done.add(json.loads(line)["file"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"line {number} of {out} is no label: delete it to go on, or name another"
            ) from error
    hands = Hands(static_image_mode=True, max_num_hands=8, min_detection_confidence=0.3)
    with out.open("a") as file:
        for row in tqdm(read_index(folder), desc="teacher", unit="image"):
            name = f"{row['slug']}/{row['file']}"
            if name in done or row.get("hands") == "no":
                continue
            image = read_image(folder / name)
            seen = []
            for x, y, w, h, mirrored in views(image.shape[1], image.shape[0]):
                step = VIEW_PX / max(w, h)
                size = (max(round(w * step), 16), max(round(h * step), 16))
                matrix = np.array([[step, 0, -x * step], [0, step, -y * step]])
                if mirrored:
                    matrix = np.array([[-step, 0, size[0] + x * step], [0, step, -y * step]])
                interpolation = cv2.INTER_AREA if step < 1 else cv2.INTER_LINEAR
                view = cv2.warpAffine(image, matrix, size, flags=interpolation, borderValue=(114,) * 3)
                prediction = hands.process(view)
                back = cv2.invertAffineTransform(matrix)
                found = []
                for marks, side in zip(prediction.multi_hand_landmarks or (), prediction.multi_handedness or ()):
                    uv = np.array([[p.x * size[0], p.y * size[1]] for p in marks.landmark]) @ back[:, :2].T + back[:, 2]
                    # Its sides are for mirrored images, so that its left is a person's right.
                    right = (side.classification[0].label == "Left") != mirrored
                    depth = [round(p.z * size[0] / step, 2) for p in marks.landmark]
                    score = side.classification[0].score
                    found.append({"uv": np.round(uv, 2).tolist(), "z": depth, "right": right, "score": score})
                seen.append({"box": [x, y, w, h], "hands": found})
            file.write(json.dumps({"file": name, "views": seen}) + "\n")
            file.flush()


def agree(record: dict[str, Any]) -> list[TeacherHand]:
    """Hands of a photograph by falling number of views with them."""
    predictions = [(view, hand) for view, seen in enumerate(record["views"]) for hand in seen["hands"]]
    groups: list[list[tuple[int, dict]]] = []
    for view, hand in sorted(predictions, key=lambda a: -a[1]["score"]):
        uv = np.array(hand["uv"])
        near = [(similarity(np.median([h["uv"] for _, h in group], axis=0), uv), group) for group in groups]
        best = max(near, key=lambda n: n[0], default=(0.0, []))
        if best[0] > _SAME:
            best[1].append((view, hand))
        else:
            groups.append([(view, hand)])
    found: list[tuple[int, TeacherHand]] = []
    for group in groups:
        points = np.array([hand["uv"] for _, hand in group])
        uv = np.median(points, axis=0)
        low, high = uv.min(0), uv.max(0)
        extent = max(float((high - low).max()), 1.0)
        could = 0
        for seen in record["views"]:
            x, y, w, h = seen["box"]
            inside = (low >= [x - 0.02 * w, y - 0.02 * h]).all() and (high <= [x + 1.02 * w, y + 1.02 * h]).all()
            could += bool(inside and 0.1 <= extent / max(w, h) <= 0.9)
        number = len({view for view, _ in group})
        spread = np.median(np.linalg.norm(points - uv, axis=2), axis=0) / extent
        sure = number >= _LEAST_VIEWS and number >= _LEAST_SHARE * could and spread.mean() < _MOST_SPREAD
        right = float(np.mean([hand["right"] for _, hand in group]))
        depths = np.array([hand["z"] for _, hand in group])
        depth = np.median(depths, axis=0)
        clear = np.median(np.abs(depths - depth)) < _MOST_DEPTH_SPREAD * extent
        found.append((number, TeacherHand(uv, spread, right, bool(sure), depth - depth[0] if clear else None)))
    kept: list[TeacherHand] = []
    for _, hand in sorted(found, key=lambda f: (-f[1].sure, -f[0])):
        if all(overlap(hand, other) < 0.4 for other in kept):
            kept.append(hand)
    return kept


def overlap(a: TeacherHand, b: TeacherHand) -> float:
    """Area of the intersection over that of the smaller box."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = box_of(a.keypoints_px), box_of(b.keypoints_px)
    shared = max(min(ax + aw, bx + bw) - max(ax, bx), 0) * max(min(ay + ah, by + bh) - max(ay, by), 0)
    return float(shared / max(min(aw * ah, bw * bh), 1e-9))


def read_index(folder: Path) -> list[dict[str, str]]:
    """Rows of a folder's index.csv. Raises InvalidInputError where there is none, or one without slug and file, or with
    something else than yes, no and unknown in the column hands."""
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{folder} is not a folder of photographs: {error}") from error
    if not rows or not all(row.get("slug") and row.get("file") for row in rows):
        raise InvalidInputError(
            f"{folder / 'index.csv'} must have the columns slug and file, and a row each photograph"
        )
    for row in rows:
        if row.get("hands") is not None and row["hands"] not in ("yes", "no", "unknown"):
            name = f"{row['slug']}/{row['file']}"
            raise InvalidInputError(
                f"{folder / 'index.csv'}: hands of {name} is yes, no or unknown, not {row['hands']!r}"
            )
    return rows
