"""Metrics of matches: the paper's 2D and 3D protocols, and today's alignments.

A missed hand counts with infinite error in medians, PCK and AUC; means are over found hands, whose
share is the detection rate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.datasets.rhd import hand_mask, read_depth, read_mask
from hand_pose_3d.evaluation.matching import Keypoint0, Match, same_keypoint0
from hand_pose_3d.evaluation.metrics import Summary, epe, hand_size, summarise
from hand_pose_3d.geometry import align_scale, align_similarity, bone_length, folded_fingers
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.placement import place, reference_units
from hand_pose_3d.skeleton import AUTHORS_REFERENCE_BONE, INDEX_MCP, LITTLE_MCP, MIDDLE_MCP, NUM_KEYPOINTS, WRIST, Side

MAX_PX, MAX_MM = 30.0, 50.0
"""Last thresholds of the PCK curves."""

FOUND_IOU = 0.5  # of the boxes of a hand and its prediction
_FOLDED = "three or four folded"
_FACING = 0.5
"""Least cosine between the view and the palm's normal at which palm or back is shown: within 60 degrees, set by hand.
"""


def errors_px(
    matches: Sequence[Match], keypoint0: Keypoint0 = "label", scale_uv: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """(N, 21) distances in pixels; nan where nothing is labelled, inf for missed hands.

    scale_uv: stretches u and v before measuring, for metrics in pixels of a resized image.
    """
    rows = []
    for item in matches:
        predicted = np.full((NUM_KEYPOINTS, 2), np.inf) if item.hand is None else item.hand.keypoints_px
        rows.append(_error_px(predicted, item, keypoint0, np.array(scale_uv)))
    return np.array(rows).reshape(-1, NUM_KEYPOINTS)


def crop_errors_px(
    keypoints: Sequence[np.ndarray], matches: Sequence[Match], keypoint0: Keypoint0 = "label"
) -> np.ndarray:
    """(N, 21) distances in original pixels of keypoints that were found in true crops."""
    rows = [_error_px(points, item, keypoint0, np.ones(2)) for points, item in zip(keypoints, matches, strict=True)]
    return np.array(rows).reshape(-1, NUM_KEYPOINTS)


def _error_px(predicted: np.ndarray, item: Match, keypoint0: Keypoint0, scale: np.ndarray) -> np.ndarray:
    predicted, labelled, visible = same_keypoint0(predicted, item.sample, item.sample.keypoints_px, keypoint0)
    if not np.isfinite(predicted).all():
        return np.where(visible, np.inf, np.nan)
    return epe(predicted * scale, labelled * scale, visible)


Placement = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Moves predicted keypoints (21, 3) of any scale to labelled ones in metres."""


def true_scale(predicted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """True root and true length of the middle finger's first bone, no rotation.

    Nearly the authors' rule: they multiply their networks' coordinates by that length, of which the predicted bone is
    one unit only in the mean; here it is exactly one.
    """
    unit = bone_length(labelled, AUTHORS_REFERENCE_BONE) / bone_length(predicted, AUTHORS_REFERENCE_BONE)
    return (predicted - predicted[WRIST]) * unit + labelled[WRIST]


PLACEMENTS: dict[str, Placement] = {
    "true_scale": true_scale,
    "root_scale": align_scale,
    "procrustes": align_similarity,
}


def errors_mm(matches: Sequence[Match], placement: Placement, keypoint0: Keypoint0 = "label") -> np.ndarray:
    """(N, 21) distances in millimetres of the relative poses after a placement; inf for missed hands.

    Every keypoint counts, visible or not, the root with its zero too, as in the authors' code. Samples without
    complete metric labels are left out.
    """
    rows = []
    for item in matches:
        labelled = item.sample.keypoints_m
        if labelled is None or not np.isfinite(labelled).all():
            continue
        if item.hand is None:
            rows.append(np.full(NUM_KEYPOINTS, np.inf))
            continue
        predicted, labelled, _ = same_keypoint0(item.hand.keypoints_relative, item.sample, labelled, keypoint0)
        rows.append(1000 * epe(placement(predicted, labelled), labelled))
    return np.array(rows).reshape(-1, NUM_KEYPOINTS)


def errors_absolute_mm(matches: Sequence[Match], keypoint0: Keypoint0 = "label") -> np.ndarray:
    """(N, 21) distances in millimetres in the camera's frame, nothing aligned; only of hands that have metres."""
    rows = []
    for item in matches:
        labelled = item.sample.keypoints_m
        if labelled is None or item.hand is None or item.hand.keypoints_m is None:
            continue
        predicted, labelled, _ = same_keypoint0(item.hand.keypoints_m, item.sample, labelled, keypoint0)
        rows.append(1000 * epe(predicted, labelled))
    return np.array(rows).reshape(-1, NUM_KEYPOINTS)


def wrist_errors_m(matches: Sequence[Match], source: ScaleSource) -> np.ndarray:
    """(N, 3) of found hands: the wrist's true distance from the camera, its error and the stated deviation, metres.

    Hands are placed again: ASSUMED with the length that people have on average, CALIBRATED with the true size of this
    palm, DEPTH beside RHD's depth image, where it shows the hand. Nothing is aligned.
    """
    rows = []
    for item in matches:
        sample = item.sample
        if item.hand is None or not item.iou > FOUND_IOU or sample.keypoints_m is None:
            continue
        given: dict[str, Any] = {}
        if source == ScaleSource.CALIBRATED:
            given = {"reference_length_m": reference_units(sample.keypoints_m), "scale_source": source}
        elif source == ScaleSource.DEPTH:
            given = {"depth_m": None if sample.depth_path is None else read_depth(sample.depth_path)}
        placed = place(item.hand, sample.camera, **given)
        if placed.keypoints_m is not None and placed.scale_source == source:
            truth = sample.keypoints_m[WRIST]
            error = float(np.linalg.norm(placed.keypoints_m[WRIST] - truth))
            rows.append((float(np.linalg.norm(truth)), error, placed.position_stddev_m))
    return np.array(rows).reshape(-1, 3)


def per_image(errors: np.ndarray) -> np.ndarray:
    """Mean error of each image over its labelled keypoints. errors: (N, 21); returns (N,), inf for a miss."""
    counted = ~np.isnan(errors)
    number = counted.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, np.where(counted, errors, 0).sum(axis=1) / number, np.nan)


def detection(matches: Sequence[Match]) -> dict[str, float | None]:
    """Shares of labelled hands with a prediction, and found (box IoU over 0.5, of those whose label spans a box; None
    without any); further predictions an image."""
    found = [item.iou > FOUND_IOU for item in matches if not math.isnan(item.iou)]
    return {
        "answered": float(np.mean([item.hand is not None for item in matches])),
        "found": float(np.mean(found)) if found else None,
        "other_hands_per_image": float(np.mean(_further(matches))),
    }


def _further(matches: Sequence[Match]) -> list[int]:
    """Predictions of each image that belong to none of its labelled hands."""
    predicted: dict[Path, set[bytes]] = defaultdict(set)
    labelled: dict[Path, set[bytes]] = defaultdict(set)
    for item in matches:
        predicted[item.sample.image_path] |= {hand.keypoints_px.tobytes() for hand in item.hands}
        if item.hand is not None:
            labelled[item.sample.image_path].add(item.hand.keypoints_px.tobytes())
    return [len(hands - labelled[path]) for path, hands in predicted.items()]


def false_hands(matches: Sequence[Match]) -> float | None:
    """Predictions an image that lie on no hand: less than a quarter of their keypoints is on one in the mask.

    None without masks.
    """
    counts = []
    for item in matches:
        if item.sample.mask_path is not None:
            on_hand = hand_mask(read_mask(item.sample.mask_path))
            counts.append(sum(_share_on(on_hand, hand.keypoints_px) < 0.25 for hand in item.hands))
    return float(np.mean(counts)) if counts else None


def _share_on(pixels: np.ndarray, keypoints_px: np.ndarray) -> float:
    """Share of keypoints (21, 2) that lie on pixels (H, W) bool."""
    column, row = np.round(keypoints_px).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < pixels.shape[1]) & (row < pixels.shape[0])
    return float(pixels[row[inside], column[inside]].sum() / len(keypoints_px))


def side_correct(matches: Sequence[Match]) -> dict[str, float]:
    """Shares of correct sides, among hands with a prediction and among all; empty without labelled sides."""
    labelled = [item for item in matches if item.sample.side != Side.UNKNOWN]
    answered = [item.hand.side == item.sample.side for item in labelled if item.hand is not None]
    if not answered:
        return {}
    return {"of_answered": float(np.mean(answered)), "of_all": float(np.sum(answered) / len(labelled))}


def distances(errors: np.ndarray, matches: Sequence[Match]) -> dict[str, float | None]:
    """Plain metrics of 2D errors (N, 21), in pixels and as a share of the hand's size.

    The median is over images of the image's mean distance, the stricter of the two usual ones; the pooled median is
    over all keypoints of all images. 'found_' metrics leave out missed hands.
    """
    size = np.array([hand_size(item.sample.keypoints_px[item.sample.visible]) for item in matches])
    size = np.where(size > 0, size, np.nan)  # of a single keypoint there is no share
    metrics: dict[str, float | None] = {}
    for unit, values in (("px", errors), ("share_of_hand", errors / size[:, None])):
        images = per_image(values)
        images = images[~np.isnan(images)]
        pooled = values[~np.isnan(values)]
        found = images[np.isfinite(images)]
        metrics[f"median_{unit}"] = _known(np.median, images)
        metrics[f"pooled_median_{unit}"] = _known(np.median, pooled)
        metrics[f"found_median_{unit}"] = _known(np.median, found)
        metrics[f"found_mean_{unit}"] = _known(np.mean, found)
    return metrics


def _known(middle: Callable[[np.ndarray], Any], values: np.ndarray) -> float | None:
    """A mean or median, None where it is infinite or there is no value."""
    value = float(middle(values)) if len(values) else math.inf
    return value if math.isfinite(value) else None


def found_only(errors: np.ndarray) -> np.ndarray:
    """Rows of errors (N, 21) without missed hands."""
    return errors[~np.isinf(errors).any(axis=1)]


def groups(matches: Sequence[Match]) -> dict[str, list[Match]]:
    """Samples with metric labels, of which anything is visible, by the number of folded fingers and by what the hand
    shows: palm, back or edge."""
    found: dict[str, list[Match]] = {}
    for item in matches:
        xyz = item.sample.keypoints_m
        if xyz is None or not np.isfinite(xyz).all() or not item.sample.visible.any():
            continue
        folded = int(folded_fingers(xyz).sum())
        names = [("no finger folded", "one or two folded", "one or two folded")[folded] if folded < 3 else _FOLDED]
        across, along = xyz[LITTLE_MCP] - xyz[INDEX_MCP], xyz[MIDDLE_MCP] - xyz[WRIST]
        palm = np.cross(across, along) * (1 if item.sample.side == Side.LEFT else -1)
        facing = float(palm @ xyz[MIDDLE_MCP] / (np.linalg.norm(palm) * np.linalg.norm(xyz[MIDDLE_MCP]) + 1e-12))
        if item.sample.side != Side.UNKNOWN:
            names.append(
                "palm shown" if facing < -_FACING else "back shown" if facing > _FACING else "seen from the edge"
            )
        for name in names:
            found.setdefault(name, []).append(item)
    return dict(sorted(found.items()))


def summary_of(errors: np.ndarray, maximum: float) -> dict[str, Any]:
    """A summary with misses as infinite errors, and mean and AUC over found hands beside it."""
    summary = summarise(errors, maximum).to_dict()
    found = found_only(errors)
    if np.isfinite(found).any():
        over_found: Summary = summarise(found, maximum)
        summary |= {"found_mean": over_found.mean, "found_median": over_found.median, "found_auc": over_found.auc}
        summary |= {"found_pooled_mean": over_found.pooled_mean}
    return summary
