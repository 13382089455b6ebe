"""Photographs without labels: a teacher predicts hands in several views of each, and consistent predictions are labels.

The teacher is MediaPipe Hands (Apache-2.0). A folder of photographs holds `index.csv` with the columns slug (source, a
folder), file and, where a person has checked, hands: yes, no or unknown; without that column all photographs show
hands.

    python -m hand_pose_3d.training.photographs label FOLDER LABELS.jsonl      # needs mediapipe; resumes
    python -m hand_pose_3d.training.photographs pack FOLDER LABELS.jsonl OUT --held-out SLUG...

`pack --looked FILE` adds what a person checked and drew, one line of JSON a photograph: file; hands and others, the
student's keypoints (21, 2) on a hand and on none; boxes, (left, top, right, bottom) in pixels, of further hands;
ignored, boxes of what may be one; wrong, boxes of hands that fit none; complete, whether these are all hands. A
photograph in FILE needs no labels: LABELS.jsonl may be empty.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import InvalidInputError, in_words
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.geometry import folded_fingers
from hand_pose_3d.images import read_image
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.training.crops import (
    HARD_NEGATIVES_FILE,
    PACK_MARGIN,
    PACK_SIZE,
    CropPack,
    around,
    load_pack,
)
from hand_pose_3d.training.data import hand_like_windows
from hand_pose_3d.training.scenes import (
    BACKGROUND,
    UNKNOWN,
    LabelledScene,
    ScenePack,
    box_outline,
    check_pack_target,
    pack_scenes,
)
from hand_pose_3d.training.teacher import TeacherHand, agree, label, overlap, read_index
from hand_pose_3d.windows import crop_from_pose, crop_upright

_SIDE_SHARE = 0.8
"""Share of the views that must agree on a hand's side for it to be a label; set by hand."""
_ASSUMED_EXTENT_M = 0.17
"""Assumed extent of a hand, metres, which scales depth in pixels; lifting does not depend on size."""
_ASSUMED_DISTANCE_M = 3.0
"""Assumed distance of such a hand, metres: large, as pixels and depth then have the same scale."""
_LEAST_FACE_PX = 14  # edge of the smallest face's box that is used
_LOOKED_MARGIN = 1.3
"""Edge of the window of a false prediction over the extent of its keypoints, as in its reading."""
_LOOKED_SPREAD = 0.06
"""Assumed error of checked keypoints over their hand's extent: they were confirmed, not measured."""
_UNKNOWN_MARGIN = 0.25
"""Pixels nearer to a hand's box than this share of its extent have unknown class; set by hand."""


@dataclass(frozen=True)
class Photograph:
    """source: its folder; image: (H, W, 3); complete: whether there is no other hand; others: (N, 21, 2) predictions
    that were checked to be on no hand."""

    source: str
    image: np.ndarray
    hands: list[TeacherHand]
    complete: bool
    others: np.ndarray


def _with_looked(hands: Sequence[TeacherHand], looked: Mapping) -> list[TeacherHand]:
    """The teacher's sure hands and the checked predictions, but the wrong ones; then boxes drawn by a person.

    The teacher's unsure hands follow, unless a person accounted for all hands.
    """
    spread = np.full(NUM_KEYPOINTS, _LOOKED_SPREAD)
    wrong = [box_outline(box) for box in looked.get("wrong", ())]

    def right(hands: Iterable[TeacherHand]) -> list[TeacherHand]:
        return [hand for hand in hands if not any(_same_box(hand.keypoints_px, other) for other in wrong)]

    kept = right(hand for hand in hands if hand.sure)
    for hand in right(TeacherHand(np.array(uv, float), spread, 0.5, True) for uv in looked.get("hands", ())):
        if all(overlap(hand, other) < 0.4 for other in kept):
            kept.append(hand)
    for name, sure in (("boxes", True), ("ignored", False)):
        kept += [TeacherHand(box_outline(box), spread, 0.5, sure, boxed=True) for box in looked.get(name, ())]
    if looked.get("complete"):
        return kept
    return kept + [hand for hand in hands if not hand.sure and all(overlap(hand, other) < 0.4 for other in kept)]


def _same_box(a: np.ndarray, b: np.ndarray) -> bool:
    return box_iou(box_of(a), box_of(b)) > 0.75  # boxes are whole pixels


def _records(path: Path | None) -> dict[str, dict]:
    """Lines of JSON by their photograph."""
    if path is None:
        return {}
    try:
        records = [(record["file"], record) for record in map(json.loads, path.open(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is not a list of photographs, a line of JSON each: {error!r}") from error
    for name, count in Counter(name for name, _ in records).items():
        if count > 1:
            raise InvalidInputError(f"{path} has {count} lines of {name}: one photograph, one line")
    return dict(records)


def _unlabelled(folder: Path, labels: Path, looked: Path | None) -> list[str]:
    """Photographs of which neither the teacher nor a person has said anything, though others have been labelled."""
    known = _records(labels)
    if not known:
        return []
    known |= _records(looked)
    names = [f"{row['slug']}/{row['file']}" for row in read_index(folder) if row.get("hands") != "no"]
    return [name for name in names if name not in known]


def read_photographs(
    folder: Path,
    labels: Path,
    slugs: Sequence[str],
    others: bool,
    no_side: Sequence[str] = (),
    looked: Path | None = None,
) -> Iterator[Photograph]:
    """The photographs of `slugs`, or of all others, that the teacher has seen or a person.

    no_side: sources that may be mirrored. Those with unknown hands are left out."""
    records, seen = _records(labels), _records(looked)
    for row in read_index(folder):
        name, eye = f"{row['slug']}/{row['file']}", row.get("hands")
        if (row["slug"] in slugs) == others or (eye != "no" and name not in records and name not in seen):
            continue
        if eye == "unknown" and name not in seen:
            continue
        by_eye = seen.get(name, {})
        try:
            taught = agree(records.get(name, {"views": []}))
            if any(hand.keypoints_px.shape != (NUM_KEYPOINTS, 2) for hand in taught):
                raise ValueError("a hand has 21 keypoints")
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise InvalidInputError(f"{labels} on {name} is not as `label` writes it: {error!r}") from error
        try:
            hands = [] if eye == "no" else _with_looked(taught, by_eye)
            no_hands = np.array(by_eye.get("others", []), float).reshape(-1, NUM_KEYPOINTS, 2)
            for uv in (*(hand.keypoints_px for hand in hands), no_hands):
                if uv.shape[-2:] != (NUM_KEYPOINTS, 2) or not np.isfinite(uv).all():
                    raise ValueError(f"these are {uv.tolist()}")
            for box in (*by_eye.get("boxes", ()), *by_eye.get("ignored", ())):
                if not (box[0] < box[2] and box[1] < box[3] and min(box[2:]) > 0):
                    raise ValueError(f"the box {box} is not left, top, right and bottom")
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise InvalidInputError(
                f"{looked} on {name}: hands and others are lists of 21 pairs of pixels, boxes, ignored and wrong "
                f"lists of four numbers: {error}"
            ) from error
        if row["slug"] in no_side:
            hands = [replace(hand, right=0.5) for hand in hands]
        # There may be more hands where a person noted only that there are some, or the teacher found none.
        complete = eye == "no" or bool(by_eye.get("complete"))
        complete |= eye is None and name not in seen and any(h.sure for h in hands)
        yield Photograph(row["slug"], read_image(folder / name), hands, complete, no_hands)


def _box_around(uv: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns near keypoints (21, 2)."""
    low, high = uv.min(0), uv.max(0)
    reach = _UNKNOWN_MARGIN * (high - low).max()
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
    known = [h.right if max(h.right, 1 - h.right) >= _SIDE_SHARE else np.nan for h in hands]
    return LabelledScene(
        np.dstack([image, classes]),
        np.array([h.keypoints_px for h in hands]).reshape(count, NUM_KEYPOINTS, 2),
        np.array([h.sure for h in hands], bool),
        np.round(np.array(known, float)),
        np.array([h.spread for h in hands]).reshape(count, NUM_KEYPOINTS),
        complete,
        np.array([h.boxed for h in hands], bool),
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
    """(21, 3) metres in camera axes, from a large distance, of an open hand with consistent depth; else zeros, as for
    other hands the teacher's depth is worse than ours."""
    if hand.depth_px is None:
        return np.zeros((NUM_KEYPOINTS, 3))
    xyz = np.column_stack([hand.keypoints_px, hand.depth_px])
    xyz = (xyz - xyz.mean(axis=0)) * (_ASSUMED_EXTENT_M / max(float(np.ptp(hand.keypoints_px, axis=0).max()), 1.0))
    return np.zeros((NUM_KEYPOINTS, 3)) if folded_fingers(xyz).any() else xyz + [0, 0, _ASSUMED_DISTANCE_M]


def hard_negatives(faces: bool) -> Callable[[np.ndarray], list[Crop]]:
    """Windows of a photograph without hands: detections of the shipped HandSegNet and, with `faces`, faces that
    MediaPipe detects, randomly rotated and cropped."""
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


def _box(crop: Crop) -> np.ndarray:
    """(x, y, w, h) of a window, as if it was not turned."""
    return np.array([*(np.asarray(crop.center) - crop.side / 2), crop.side, crop.side])


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
        """Add a photograph."""
        image, poses = photograph.image, map(open_pose, photograph.hands)
        height, width = image.shape[:2]
        four = np.dstack([image, np.full((height, width), 255, np.uint8)])
        for uv, sure, boxed, right, spread, xyz_m in zip(
            scene.keypoints_px, scene.sure, scene.only_boxes, scene.right, scene.spread, poses, strict=True
        ):
            crop = crop_upright(uv, PACK_SIZE, PACK_MARGIN)
            if not sure or crop.side < 24 * PACK_MARGIN:
                continue
            self.rgba.append(crop.extract(four))
            inside = ((uv > 0) & (uv < [width - 1, height - 1])).all(1) & (not boxed)
            side = 0 if np.isnan(right) else 1 + int(right > 0.5)
            values = (crop.to_crop(uv), xyz_m, inside, side, spread)
            for name, value in zip(self.labels, values):
                self.labels[name].append(value)
        if scene.complete:
            edge = self.rng.uniform(min(40, height, width), min(height, width))
            corner = self.rng.uniform(0, np.array([width, height]) - edge)
            square = np.array([*corner, edge, edge])
            if all(box_iou(square, box_of(uv)) == 0 for uv in scene.keypoints_px):
                self.backgrounds.append(Crop(tuple(corner + edge / 2), edge, PACK_SIZE).extract(image))
        windows = [crop_from_pose(uv, PACK_SIZE, _LOOKED_MARGIN) for uv in photograph.others]
        if self.windows and scene.complete:
            boxes = [box_of(uv) for uv in scene.keypoints_px]
            windows += [w for w in self.windows(image) if all(box_iou(_box(around(w)), box) == 0 for box in boxes)]
        self.hard_negatives += [around(window).extract(image) for window in windows]

    def write(self, folder: Path) -> CropPack:
        """Write the pack."""
        folder.mkdir(parents=True, exist_ok=True)
        empty = np.zeros((0, PACK_SIZE, PACK_SIZE, 4), np.uint8)
        np.save(folder / "rgba.npy", np.stack(self.rgba) if self.rgba else empty)
        np.save(folder / "backgrounds.npy", np.stack(self.backgrounds) if self.backgrounds else empty[..., :3])
        (folder / HARD_NEGATIVES_FILE).unlink(missing_ok=True)  # of an earlier pack
        if self.hard_negatives:
            np.save(folder / HARD_NEGATIVES_FILE, np.stack(self.hard_negatives))
        np.savez(folder / "labels.npz", **{name: np.array(value) for name, value in self.labels.items()})  # type: ignore[arg-type]
        return load_pack(folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hand_pose_3d.training.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", choices=("label", "pack"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--held-out", nargs="*", default=[], metavar="SLUG", help="sources that go to OUT-held-out")
    parser.add_argument(
        "--mine", action="store_true", help="keep hard negatives: windows of false detections of HandSegNet"
    )
    parser.add_argument("--faces", action="store_true", help="with --mine: faces too, needs mediapipe")
    parser.add_argument("--no-side", nargs="*", default=[], metavar="SLUG", help="sources that may be mirrored")
    parser.add_argument("--looked", type=Path, metavar="FILE", help="predictions that a person has checked")
    args = parser.parse_args()
    if args.step == "pack" and args.out is None:
        parser.error("pack needs OUT")
    if args.faces and not args.mine:
        parser.error("--faces adds to what --mine keeps: give both")
    with in_words(parser.prog):
        if args.step == "label":
            label(args.folder, args.labels)
        else:
            _pack(args)


def _pack(args: argparse.Namespace) -> None:
    sources = {row["slug"] for row in read_index(args.folder)}
    if unknown := sorted({*args.held_out, *args.no_side} - sources):
        raise InvalidInputError(
            f"{args.folder} has no source {unknown[0]!r}; its sources: {', '.join(sorted(sources))}"
        )
    common = {"no_side": args.no_side, "looked": args.looked}
    held = args.out.with_name(args.out.name + "-held-out")
    for target in (args.out, held)[: 1 + bool(args.held_out)]:
        check_pack_target(target)
    missing = _unlabelled(args.folder, args.labels, args.looked)
    if missing:
        print(
            f"{args.labels} lacks {len(missing)} photographs, which are left out, such as {missing[0]}: "
            "was `label` interrupted?",
            file=sys.stderr,
        )
    pack_photographs(args.folder, args.labels, args.out, args.held_out, mine=args.mine, faces=args.faces, **common)
    if args.held_out:
        pack_photographs(args.folder, args.labels, held, args.held_out, others=False, **common)


if __name__ == "__main__":
    main()
