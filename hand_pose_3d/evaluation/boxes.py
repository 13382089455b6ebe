"""Prediction on whole scenes with labelled boxes: matching, recall, precision and the precision-recall curve.

A prediction's box is that of its keypoints. By falling score, each prediction takes the free labelled hand with the
greatest IoU of at least MATCH_IOU. One that finds none is excused on an ignored hand, otherwise false.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from hand_pose_3d.datasets.boxes import KINDS, BoxImage
from hand_pose_3d.errors import naming
from hand_pose_3d.evaluation.metrics import box_iou, box_of, box_share_inside
from hand_pose_3d.hands import HandPose
from hand_pose_3d.interfaces import ImageEstimator
from hand_pose_3d.skeleton import Side

MATCH_IOU = 0.4
"""Least IoU with a labelled hand. Below the usual 0.5, as boxes of keypoints are tighter than labels around the skin.
"""

LOOSE_IOU = 0.1
"""False predictions with at least this IoU count as loose: on a hand, but covering it badly. Set by hand."""

IGNORE_IOU, IGNORE_SHARE = 0.2, 0.5
"""A prediction with this IoU with an ignored hand, or with this share of its box inside it, is excused. Set by hand."""

CURVE_SCORE = 0.05
"""Score threshold of the estimator for the whole precision-recall curve."""

SIZE_BINS = (0.0, 0.05, 0.075, 0.1, 0.15, 0.25, math.inf)
"""Bounds of the longer side of a hand's box over the image's longer side."""

FREE = "free and bare"


class Outcome(Enum):
    """Outcome of a prediction: found a labelled hand, excused on an ignored one, or one of three kinds of false."""

    HIT = "hit"
    EXCUSED = "excused"
    TWICE = "twice"  # on a hand that another prediction has found
    LOOSE = "loose"  # on a hand, but with too small an IoU
    FALSE = "false"  # on no hand

    @property
    def is_false(self) -> bool:
        """Whether it counts against precision."""
        return self in (Outcome.TWICE, Outcome.LOOSE, Outcome.FALSE)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction and its outcome. box_px: (4,) of its keypoints. label: index of the labelled hand of a hit."""

    hand: HandPose
    box_px: np.ndarray
    outcome: Outcome
    label: int | None = None


def run(estimator: ImageEstimator, images: Iterable[BoxImage], description: str = "images") -> list[list[Prediction]]:
    """Matched predictions of every image, whole; shows progress."""
    from tqdm import tqdm

    progress = tqdm(images, desc=description, unit="image", delay=2, disable=None, leave=False)
    found = []
    for image in progress:
        pixels = image.image()
        with naming(image.path):
            found.append(match(image, estimator(pixels)))
    return found


def match(image: BoxImage, hands: Sequence[HandPose]) -> list[Prediction]:
    """Outcomes of predictions by falling score; equal scores by falling IoU, so that their order has no influence.

    Outcomes of predictions above a score threshold do not depend on those below it.
    """
    boxes = [box_of(hand.keypoints_px) for hand in hands]
    shape = (len(boxes), len(image.hands))
    iou = np.array([[box_iou(box, hand.box_px) for hand in image.hands] for box in boxes]).reshape(shape)
    inside = np.array([[box_share_inside(box, hand.box_px) for hand in image.hands] for box in boxes]).reshape(shape)
    ignored = np.array([hand.ignore for hand in image.hands], dtype=bool)
    excusing = ignored & ((iou >= IGNORE_IOU) | (inside >= IGNORE_SHARE))
    iou = np.where(ignored, 0.0, iou)
    best = iou.max(axis=1, initial=0.0)
    free = ~ignored
    found = []
    for index in sorted(range(len(hands)), key=lambda i: (-hands[i].score, -best[i], *boxes[i])):
        overlap = np.where(free, iou[index], 0.0)
        label = None
        if overlap.max(initial=0.0) >= MATCH_IOU:
            outcome, label = Outcome.HIT, int(overlap.argmax())
            free[label] = False
        elif excusing[index].any():
            outcome = Outcome.EXCUSED
        elif best[index] >= MATCH_IOU:
            outcome = Outcome.TWICE
        else:
            outcome = Outcome.LOOSE if best[index] >= LOOSE_IOU else Outcome.FALSE
        found.append(Prediction(hands[index], boxes[index], outcome, label))
    return found


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """The curve over falling score thresholds. scores, recall, precision: (T,), one entry a distinct score."""

    scores: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    @property
    def average_precision(self) -> float:
        """Area under the precision envelope: at each recall the greatest precision at that recall or above."""
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * envelope))


def precision_recall(images: Sequence[BoxImage], detections: Sequence[Sequence[Prediction]]) -> PrecisionRecall:
    """The curve of all predictions; those that are excused do not count."""
    counted = [item for items in detections for item in items if item.outcome != Outcome.EXCUSED]
    scores = np.array([item.hand.score for item in counted], dtype=float)
    hits = np.array([item.outcome == Outcome.HIT for item in counted], dtype=bool)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores enter together
    hands = sum(not hand.ignore for image in images for hand in image.hands)
    return PrecisionRecall(scores[last], hits[last] / max(hands, 1), hits[last] / (last + 1))


def detection_metrics(
    images: Sequence[BoxImage], detections: Sequence[Sequence[Prediction]], threshold: float | None
) -> dict[str, Any]:
    """Plain metrics for JSON; a share is {"share": None without data, "count", "of"}.

    Args:
        images, detections: the labels, and the matched predictions of each image.
        threshold: predictions that score less count for the curve and the average precision only. None: all count, and
            there is no curve, for a detector whose score is not one of detection.

    Returns:
        recall, recall_by_size, recall_by_kind, precision, side, and false_hands: of images with and without labelled
        hands (ignored ones are labelled too), their number and mean an image; among them twice and loose.
    """
    sizes, kinds, labelled, found = [], [], [], []
    outcomes: list[Outcome] = []
    sides: list[bool] = []
    false: dict[bool, list[int]] = {True: [], False: []}
    for image, items in zip(images, detections, strict=True):
        kept = [item for item in items if threshold is None or item.hand.score >= threshold]
        hits = {item.label: item.hand for item in kept if item.label is not None}
        outcomes += [item.outcome for item in kept]
        false[bool(image.hands)].append(sum(item.outcome.is_false for item in kept))
        for index, hand in enumerate(image.hands):
            if not hand.ignore:
                labelled.append(hand)
                sizes.append(image.relative_size(hand))
                kinds.append(hand.kinds or {FREE})
                found.append(index in hits)
            if index in hits and hand.side != Side.UNKNOWN:
                sides.append(hits[index].side == hand.side)
    size, hit = np.array(sizes), np.array(found, dtype=bool)
    by_size = []
    for low, high in itertools.pairwise(SIZE_BINS):
        here = (size >= low) & (size < high)
        bounds = {"from": low, "to": high if math.isfinite(high) else None}
        by_size.append({**bounds, **share(hit[here].sum(), here.sum())})
    by_kind = {}
    for kind in (FREE, *KINDS):
        of_kind = np.array([kind in names for names in kinds], dtype=bool)
        by_kind[kind] = share(hit[of_kind].sum(), of_kind.sum())
    metrics: dict[str, Any] = {
        "threshold": threshold,
        "recall_by_size": by_size,
        "recall_by_kind": by_kind,
        "recall": share(hit.sum(), len(labelled)),
        "precision": share(hit.sum(), hit.sum() + sum(map(sum, false.values()))),
        "false_hands": {
            "with_hands": share(sum(false[True]), len(false[True])),
            "without_hands": share(sum(false[False]), len(false[False])),
            "twice": outcomes.count(Outcome.TWICE),
            "loose": outcomes.count(Outcome.LOOSE),
        },
        "excused": outcomes.count(Outcome.EXCUSED),
        "average_precision": None,
        "side": share(sum(sides), len(sides)),
    }
    if threshold is not None:
        curve = precision_recall(images, detections)
        metrics["average_precision"] = curve.average_precision if metrics["recall"]["of"] else None
        metrics["curve"] = {name: getattr(curve, name).tolist() for name in ("scores", "recall", "precision")}
    return metrics


def share(count: Any, of: Any) -> dict[str, Any]:
    return {"share": float(count / of) if of else None, "count": int(count), "of": int(of)}
