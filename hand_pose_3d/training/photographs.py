"""Photographs without labels: a teacher reads several views of each, and what its predictions agree on is learned.

The teacher is MediaPipe Hands (Apache-2.0). A folder of photographs holds `index.csv` with the columns slug (source, a
folder), file and, where a person has looked, hands: yes, no or unknown; without that column all photographs show hands.

    python -m hand_pose_3d.training.photographs label FOLDER LABELS.jsonl      # needs mediapipe; resumes
    python -m hand_pose_3d.training.photographs pack FOLDER LABELS.jsonl OUT --held-out SLUG...

What the teacher misses the student may see: `pack --looked FILE` adds predictions of the student that were looked at,
one line of JSON a photograph: file; hands and others, keypoints (21, 2) that lie on a hand and that do not.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.geometry import folded_fingers
from hand_pose_3d.images import read_image
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.tracking import similarity
from hand_pose_3d.training.crops import (
    HARD_NEGATIVE_MARGIN,
    HARD_NEGATIVES_FILE,
    PACK_MARGIN,
    PACK_SIZE,
    CropPack,
    load_pack,
)
from hand_pose_3d.training.data import hand_like_windows
from hand_pose_3d.training.scenes import BACKGROUND, UNKNOWN, LabelledScene, ScenePack, pack_scenes
from hand_pose_3d.windows import crop_from_pose

VIEW_PX = 512
"""Longer side of a view as the teacher gets it."""
_SAME = 0.45
"""Keypoint similarity from which on two predictions are of one hand."""
_LEAST_VIEWS, _LEAST_SHARE, _MOST_SPREAD = 2, 0.35, 0.08
"""A hand is sure if as many views, and this share of those that could, agree on it, and keypoints differ by no more
than this share of its extent in the mean."""
_MOST_DEPTH_SPREAD = 0.06
"""Median difference of depths between views over the extent, from which on the teacher's depth is not learned."""
_SIDE_SHARE = 0.8
"""Of the views that must call a hand right, or left, for its side to be learned."""
_HAND_M = 0.17
"""Extent of a hand in metres by which depth in pixels becomes a pose; lifting learns shapes, not sizes."""
_AFAR_M = 3.0
"""Distance at which such a hand is put: its pixels and depth are to one scale, as seen from afar."""
_LEAST_FACE_PX = 14
_LOOKED_MARGIN = 1.3
"""Edge of the window of a prediction on no hand over the extent of its keypoints, as when it was read."""
_LOOKED_SPREAD = 0.06
"""Of keypoints that were seen to lie on their hand, over its extent: they are right, not exact."""
_AROUND = 0.25
"""Pixels of a photograph nearer to a hand's box than this share of its extent are of unknown class."""


@dataclass(frozen=True)
class TeacherHand:
    """What views of one photograph agree on. keypoints_px: (21, 2) medians; spread: (21,) median distance from them
    over the extent; right: share of views that call it right; sure: whether to learn from it; depth_px: (21,) pixels
    behind the wrist, None where views differ too much."""

    keypoints_px: np.ndarray
    spread: np.ndarray
    right: float
    sure: bool
    depth_px: np.ndarray | None = None


def views(width: int, height: int) -> list[tuple[float, float, float, float, bool]]:
    """Parts (x, y, w, h, mirrored) of a photograph: whole, mirrored, with a border, 2 x 2 and 3 x 3 tiles."""
    parts = [(0.0, 0.0, 1.0, False), (0.0, 0.0, 1.0, True), (-0.3, -0.3, 1.6, False)]
    parts += [(x, y, 0.6, False) for x in (0.0, 0.4) for y in (0.0, 0.4)]
    parts += [(x, y, 0.4, False) for x in (0.0, 0.3, 0.6) for y in (0.0, 0.3, 0.6)]
    return [(x * width, y * height, size * width, size * height, mirrored) for x, y, size, mirrored in parts]


def label(folder: Path, out: Path) -> None:
    """Write one line of JSON a photograph: every hand that the teacher sees in every view."""
    import cv2
    from mediapipe.python.solutions.hands import Hands
    from tqdm import tqdm

    done = {json.loads(line)["file"] for line in out.open()} if out.exists() else set()
    hands = Hands(static_image_mode=True, max_num_hands=8, min_detection_confidence=0.3)
    with out.open("a") as file:
        for row in tqdm(_index(folder), desc="teacher", unit="image"):
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
    """Hands of a photograph by falling number of views that see them."""
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
        if all(_overlap(hand, other) < 0.4 for other in kept):
            kept.append(hand)
    return kept


def _overlap(a: TeacherHand, b: TeacherHand) -> float:
    """Shared area over the smaller box."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = box_of(a.keypoints_px), box_of(b.keypoints_px)
    shared = max(min(ax + aw, bx + bw) - max(ax, bx), 0) * max(min(ay + ah, by + bh) - max(ay, by), 0)
    return float(shared / max(min(aw * ah, bw * bh), 1e-9))


@dataclass(frozen=True)
class Photograph:
    """source: its folder; image: (H, W, 3); complete: whether there is no other hand; others: (N, 21, 2) predictions
    that were seen to lie on no hand."""

    source: str
    image: np.ndarray
    hands: list[TeacherHand]
    complete: bool
    others: np.ndarray


def _with_looked(hands: Sequence[TeacherHand], looked: Sequence) -> list[TeacherHand]:
    """The teacher's hands, and before those of which it is not sure what was looked at."""
    spread = np.full(NUM_KEYPOINTS, _LOOKED_SPREAD)
    kept = [hand for hand in hands if hand.sure]
    kept += [
        hand
        for hand in (TeacherHand(np.array(uv, float), spread, 0.5, True) for uv in looked)
        if all(_overlap(hand, other) < 0.4 for other in kept)
    ]
    return kept + [hand for hand in hands if not hand.sure and all(_overlap(hand, other) < 0.4 for other in kept)]


def _records(path: Path | None) -> dict[str, dict]:
    """Lines of JSON by their photograph."""
    return {} if path is None else {record["file"]: record for record in map(json.loads, path.open())}


def _index(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "index.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InvalidInputError(f"{folder} is no folder of photographs: {error}") from error


def read_photographs(
    folder: Path,
    labels: Path,
    slugs: Sequence[str],
    others: bool,
    no_side: Sequence[str] = (),
    looked: Path | None = None,
) -> Iterator[Photograph]:
    """The photographs of `slugs`, or of all others. no_side: sources that may be mirrored. Those whose hands nobody
    knows are left out."""
    records, seen = _records(labels), _records(looked)
    for row in _index(folder):
        name, eye = f"{row['slug']}/{row['file']}", row.get("hands")
        if (row["slug"] in slugs) == others or (eye != "no" and name not in records):
            continue
        if eye == "unknown" and name not in seen:
            continue
        by_eye = seen.get(name, {"hands": [], "others": []})
        hands = [] if eye == "no" else _with_looked(agree(records[name]), by_eye["hands"])
        if row["slug"] in no_side:
            hands = [replace(hand, right=0.5) for hand in hands]
        # Where an eye said only that there are hands, or the teacher found none, there may be others.
        complete = eye == "no" or (eye is None and any(h.sure for h in hands))
        no_hands = np.array(by_eye["others"], float).reshape(-1, NUM_KEYPOINTS, 2)
        yield Photograph(row["slug"], read_image(folder / name), hands, complete, no_hands)


def _box_around(uv: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns near keypoints (21, 2)."""
    low, high = uv.min(0), uv.max(0)
    reach = _AROUND * (high - low).max()
    (x, y), (right, bottom) = np.maximum(low - reach, 0).astype(int), np.maximum(high + reach, 0).astype(int)
    return slice(y, bottom), slice(x, right)


def _scene(photograph: Photograph) -> LabelledScene:
    image, hands, complete = photograph.image, photograph.hands, photograph.complete
    classes = np.full(image.shape[:2], BACKGROUND if complete else UNKNOWN, np.uint8)
    for uv in photograph.others:
        classes[_box_around(uv)] = BACKGROUND
    for hand in hands:
        classes[_box_around(hand.keypoints_px)] = UNKNOWN
    count = len(hands)
    known = [h.right if abs(h.right - 0.5) >= _SIDE_SHARE - 0.5 else np.nan for h in hands]
    return LabelledScene(
        np.dstack([image, classes]),
        np.array([h.keypoints_px for h in hands]).reshape(count, NUM_KEYPOINTS, 2),
        np.array([h.sure for h in hands], bool),
        np.round(np.array(known, float)),
        np.array([h.spread for h in hands]).reshape(count, NUM_KEYPOINTS),
        complete,
    )


def pack_photographs(
    folder: Path,
    labels: Path,
    out: Path,
    slugs: Sequence[str] = (),
    others: bool = True,
    no_side: Sequence[str] = (),
    mine: bool = False,
    faces: bool = False,
    looked: Path | None = None,
) -> ScenePack:
    """Pack the photographs of `slugs`, or all others, as scenes in `out` and their sure hands as crops in `out/crops`,
    with the poses of open ones, for the training of HandSegNet, PoseNet and lifting. mine, faces: keep
    :func:`hard_negatives`."""
    crops = _CropWriter(hard_negatives(faces) if mine else None)

    def scenes() -> Iterator[tuple[str, LabelledScene]]:
        for photograph in read_photographs(folder, labels, slugs, others, no_side, looked):
            scene = _scene(photograph)
            crops.add(photograph, scene)
            yield photograph.source, scene

    pack = pack_scenes(scenes(), out)
    crops.write(out / "crops")
    return pack


def open_pose(hand: TeacherHand) -> np.ndarray:
    """(21, 3) metres in camera axes, seen from afar, of an open hand whose depth is clear; else zeros: of other hands
    the teacher's depth is worse than ours."""
    if hand.depth_px is None:
        return np.zeros((NUM_KEYPOINTS, 3))
    xyz = np.column_stack([hand.keypoints_px, hand.depth_px])
    xyz = (xyz - xyz.mean(axis=0)) * (_HAND_M / max(float(np.ptp(hand.keypoints_px, axis=0).max()), 1.0))
    return np.zeros((NUM_KEYPOINTS, 3)) if folded_fingers(xyz).any() else xyz + [0, 0, _AFAR_M]


def hard_negatives(faces: bool) -> Callable[[np.ndarray], list[Crop]]:
    """Windows of a photograph without hands: where the shipped HandSegNet sees some and, with `faces`, faces as
    MediaPipe finds them, turned and cut at random."""
    hand_like, rng = hand_like_windows(), np.random.default_rng(1)
    if not faces:
        return hand_like
    from mediapipe.python.solutions.face_detection import FaceDetection

    detector = FaceDetection(model_selection=1, min_detection_confidence=0.4)

    def windows(image: np.ndarray) -> list[Crop]:
        height, width = image.shape[:2]
        found = hand_like(image)
        for face in detector.process(np.ascontiguousarray(image)).detections or ():
            box = face.location_data.relative_bounding_box
            edge = max(box.width * width, box.height * height)
            if edge < _LEAST_FACE_PX:
                continue
            for _ in range(3):
                middle = np.array([(box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height])
                u, v = middle + rng.normal(0, 0.22, 2) * edge
                angle = 0.0 if rng.random() < 0.4 else rng.uniform(-np.pi, np.pi)
                side = 1.3 * edge * float(np.exp(rng.normal(-0.05, 0.33)))
                found.append(Crop((float(u), float(v)), side, PACK_SIZE, float(angle)))
        return found

    return windows


class _CropWriter:
    """Collects the sure hands of photographs, squares without any, and hard negatives of photographs without any."""

    def __init__(self, windows: Callable[[np.ndarray], list[Crop]] | None = None) -> None:
        self.rng = np.random.default_rng(0)
        self.windows = windows
        self.hard_negatives: list[np.ndarray] = []
        self.rgba: list[np.ndarray] = []
        self.backgrounds: list[np.ndarray] = []
        self.labels: dict[str, list] = {name: [] for name in ("uv", "xyz_m", "visible", "side", "spread")}

    def add(self, photograph: Photograph, scene: LabelledScene) -> None:
        """Take what a photograph holds."""
        image, poses = photograph.image, map(open_pose, photograph.hands)
        height, width = image.shape[:2]
        four = np.dstack([image, np.full((height, width), 255, np.uint8)])
        for uv, sure, right, spread, xyz_m in zip(
            scene.keypoints_px, scene.sure, scene.right, scene.spread, poses, strict=True
        ):
            extent = float(np.ptp(uv, axis=0).max())
            if not sure or extent < 24:
                continue
            crop = Crop(tuple((uv.min(0) + uv.max(0)) / 2), extent * PACK_MARGIN, PACK_SIZE)
            self.rgba.append(crop.extract(four))
            inside = ((uv > 0) & (uv < [width - 1, height - 1])).all(1)
            side = 0 if np.isnan(right) else 1 + int(right > 0.5)
            values = (crop.to_crop(uv), xyz_m, inside, side, spread)
            for name, value in zip(self.labels, values):
                self.labels[name].append(value)
        if scene.complete:
            edge = self.rng.uniform(40, min(height, width))
            corner = self.rng.uniform(0, np.array([width, height]) - edge)
            square = np.array([*corner, edge, edge])
            if all(box_iou(square, box_of(uv)) == 0 for uv in scene.keypoints_px):
                self.backgrounds.append(Crop(tuple(corner + edge / 2), edge, PACK_SIZE).extract(image))
        windows = [crop_from_pose(uv, PACK_SIZE, _LOOKED_MARGIN) for uv in photograph.others]
        if self.windows and scene.complete and not len(scene.sure):
            windows += self.windows(image)
        for window in windows:
            wide = replace(window, side=HARD_NEGATIVE_MARGIN * window.side, size=PACK_SIZE)
            self.hard_negatives.append(wide.extract(image))

    def write(self, folder: Path) -> CropPack:
        """Write the pack."""
        folder.mkdir(parents=True, exist_ok=True)
        empty = np.zeros((0, PACK_SIZE, PACK_SIZE, 4), np.uint8)
        np.save(folder / "rgba.npy", np.stack(self.rgba) if self.rgba else empty)
        np.save(folder / "backgrounds.npy", np.stack(self.backgrounds) if self.backgrounds else empty[..., :3])
        if self.hard_negatives:
            np.save(folder / HARD_NEGATIVES_FILE, np.stack(self.hard_negatives))
        np.savez(folder / "labels.npz", **{name: np.array(value) for name, value in self.labels.items()})  # type: ignore[arg-type]
        return load_pack(folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hand_pose_3d.training.photographs", description=__doc__)
    parser.add_argument("step", choices=("label", "pack"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--held-out", nargs="*", default=[], metavar="SLUG", help="sources that go to OUT-held-out")
    parser.add_argument("--mine", action="store_true", help="keep windows that HandSegNet takes for hands")
    parser.add_argument("--faces", action="store_true", help="with --mine: faces too, needs mediapipe")
    parser.add_argument("--no-side", nargs="*", default=[], metavar="SLUG", help="sources that may be mirrored")
    parser.add_argument("--looked", type=Path, metavar="FILE", help="predictions that were looked at")
    args = parser.parse_args()
    if args.step == "label":
        label(args.folder, args.labels)
        return
    if args.out is None:
        parser.error("pack needs OUT")
    common = {"no_side": args.no_side, "looked": args.looked}
    pack_photographs(args.folder, args.labels, args.out, args.held_out, mine=args.mine, faces=args.faces, **common)
    if args.held_out:
        held = args.out.with_name(args.out.name + "-held-out")
        pack_photographs(args.folder, args.labels, held, args.held_out, others=False, **common)


if __name__ == "__main__":
    main()
