"""End-point error, PCK and AUC, in the paper's definitions and pooled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError

NUM_THRESHOLDS = 20  # of a PCK curve, as in hand3d's evaluation


def epe(predicted: np.ndarray, true: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """End-point error: Euclidean distance of each keypoint.

    predicted, true: (..., K, D), any unit. visible: (..., K) bool. Returns (..., K), nan where not visible.
    """
    error = np.linalg.norm(np.asarray(predicted, dtype=float) - np.asarray(true, dtype=float), axis=-1)
    return error if visible is None else np.where(visible, error, np.nan)


def pck(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of correct keypoints: errors that are at most the threshold, one share per keypoint.

    errors: (N, K), nan is left out, inf is a miss. thresholds: (T,). Returns (K, T), nan for a keypoint without data.
    """
    errors = np.asarray(errors, dtype=float)
    counted = ~np.isnan(errors)
    correct = (errors[:, :, None] <= np.asarray(thresholds, dtype=float)) & counted[:, :, None]
    number = counted.sum(axis=0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, correct.sum(axis=0) / number, np.nan)


def auc(thresholds: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Area under PCK curves by the trapezoid rule, divided by the range, so that perfect is 1.

    thresholds: (T,) rising. curve: (..., T). Returns (...).
    """
    thresholds, curve = np.asarray(thresholds, dtype=float), np.asarray(curve, dtype=float)
    steps = np.diff(thresholds)
    if len(thresholds) < 2 or np.any(steps <= 0):
        raise InvalidInputError("an AUC needs at least two rising thresholds")
    return np.sum(steps * (curve[..., 1:] + curve[..., :-1]) / 2, axis=-1) / (thresholds[-1] - thresholds[0])


@dataclass(frozen=True, eq=False)
class Summary:
    """Errors of a data set in the paper's terms; mean, median and auc are averages over keypoints.

    mean, median: unit of the errors. thresholds, curve: (T,) the PCK curve, averaged over keypoints.
    count: keypoints that were counted. pooled_mean, pooled_median: over all keypoints at once.
    """

    mean: float
    median: float
    auc: float
    thresholds: np.ndarray
    curve: np.ndarray
    count: int
    pooled_mean: float
    pooled_median: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; infinite values (misses) become None."""
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()}
        return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in plain.items()}


def summarise(errors: np.ndarray, maximum: float, steps: int = NUM_THRESHOLDS) -> Summary:
    """Paper's statistics of errors (hand3d's EvalUtil): per keypoint over its visible samples, then averaged.

    errors: (N, K), nan is left out, inf is a miss. maximum: last PCK threshold, in the errors' unit.
    A "median" is thus the mean of the keypoints' medians. Raises InvalidInputError when nothing is counted.
    """
    errors = np.asarray(errors, dtype=float)
    with_data = ~np.all(np.isnan(errors), axis=0) if errors.size else np.zeros(0, dtype=bool)
    if not with_data.any():
        raise InvalidInputError("there is no visible keypoint to evaluate")
    errors = errors[:, with_data]
    thresholds = np.linspace(0.0, maximum, steps)
    curves = pck(errors, thresholds)
    values = errors[~np.isnan(errors)]
    with np.errstate(invalid="ignore"):  # the middle of finite and infinite errors is infinite
        return Summary(
            mean=float(np.nanmean(errors, axis=0).mean()),
            median=float(np.nanmedian(errors, axis=0).mean()),
            auc=float(auc(thresholds, curves).mean()),
            thresholds=thresholds,
            curve=curves.mean(axis=0),
            count=int(values.size),
            pooled_mean=float(values.mean()),
            pooled_median=float(np.median(values)),
        )


def box_of(keypoints_px: np.ndarray) -> np.ndarray:
    """Bounding box (x, y, width, height) of finite keypoints (K, 2)."""
    points = keypoints_px[np.isfinite(keypoints_px).all(axis=-1)]
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])


def hand_size(keypoints_px: np.ndarray) -> float:
    """Size of a hand in pixels, the unit of errors as a share of hand size: the longer side of its keypoints' box."""
    return float(box_of(keypoints_px)[2:].max())


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, width, height); 0 when both are empty."""
    intersection = _intersection(a, b)
    union = float(a[2] * a[3] + b[2] * b[3]) - intersection
    return intersection / union if union > 0 else 0.0


def box_share_inside(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the area of box a (x, y, width, height) that lies in box b; 0 when a is empty."""
    area = float(a[2] * a[3])
    return _intersection(a, b) / area if area > 0 else 0.0


def _intersection(a: np.ndarray, b: np.ndarray) -> float:
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(np.add(a[:2], a[2:]), np.add(b[:2], b[2:]))
    return float(np.prod(np.maximum(high - low, 0)))
