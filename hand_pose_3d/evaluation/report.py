"""What is measured on each kind of data set: figures, a table beside published ones, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hand_pose_3d.evaluation import protocols
from hand_pose_3d.evaluation.matching import Keypoint0, Match
from hand_pose_3d.evaluation.metrics import auc
from hand_pose_3d.evaluation.plots import Curve
from hand_pose_3d.evaluation.references import MEDIAPIPE_GE, REFERENCES, Reference

AUTHORS_FRAME = (320, 240)
"""Width and height to which the authors resize RHD's 320x320 images before the full pipeline."""


@dataclass(eq=False)
class Report:
    """Figures by name for JSON; rows (measure, ours, others) for the terminal; curves for the plot."""

    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def add(self, measure: str, value: float | None, pattern: str, others: str = "") -> None:
        """One row of the table."""
        self.rows.append((measure, "-" if value is None else pattern.format(value), others))

    def table(self) -> str:
        """The rows as aligned text."""
        head = ("measure", "measured", "published or peer")
        widths = [max(len(row[column]) for row in [head, *self.rows]) for column in range(2)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}".rstrip() for a, b, c in [head, *self.rows]]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def photographs(matches: Sequence[Match], name: str = "") -> Report:
    """Report on folders with keypoints.json: distances, detection, side and, with metric labels, 3D."""
    peer = MEDIAPIPE_GE if name == "ge_dev" else {}
    report = Report()
    found, errors = protocols.detection(matches), protocols.errors_px(matches)
    flat, side = protocols.distances(errors, matches), protocols.side_correct(matches)
    report.figures = {"detection": found, "2d": flat | {"summary": protocols.summary_of(errors, protocols.MAX_PX)}}
    report.add("hand answered", found["answered"], "{:.1%}", _peer(peer, "answered", "{:.1%}"))
    report.add("hand found (box IoU > 0.5)", found["found"], "{:.1%}")
    report.add("further hands per image", found["other_hands_per_image"], "{:.2f}")
    report.add("2D median px", flat["median_px"], "{:.2f}", _peer(peer, "median_px", "{:.2f}"))
    report.add("   over found hands", flat["found_median_px"], "{:.2f}")
    report.add("2D median px, pooled keypoints", flat["pooled_median_px"], "{:.2f}")
    report.add("2D mean px, found hands", flat["found_mean_px"], "{:.2f}")
    share = flat["median_share_of_hand"]
    others = _peer(peer, "median_share_of_hand", "{:.2%}")
    report.add("median distance, share of hand size", share, "{:.2%}", others)
    report.add("   over found hands", flat["found_median_share_of_hand"], "{:.2%}")
    if side:
        report.figures["side"] = side
        report.add(
            "side correct, answered hands", side["of_answered"], "{:.1%}", _peer(peer, "side_of_answered", "{:.1%}")
        )
        report.add("side correct, all hands", side["of_all"], "{:.1%}", _peer(peer, "side_of_all", "{:.1%}"))
    _curve(report, "2D", "px", report.figures["2d"]["summary"], ())
    for placement, text in (("root_scale", "root- and scale-aligned"), ("procrustes", "Procrustes-aligned")):
        mm = protocols.errors_mm(matches, protocols.PLACEMENTS[placement])
        if not len(mm):
            continue
        summary = protocols.summary_of(mm, protocols.MAX_MM)
        report.figures[f"3d_{placement}"] = summary
        mean, found_auc = summary.get("found_pooled_mean"), summary.get("found_auc")
        report.add(f"3D {text}, mean mm", mean, "{:.2f}", _peer(peer, f"{placement}_mean_mm", "{:.2f}"))
        report.add("   AUC 0-50 mm", summary["auc"], "{:.3f}", _peer(peer, f"{placement}_auc", "{:.3f}"))
        others = _peer(peer, f"{placement}_found_auc", "{:.3f}")
        report.add("   AUC 0-50 mm, found hands", found_auc, "{:.3f}", others)
        _curve(report, f"3D {text}", "mm", summary, ())
    return report


def paper(
    dataset: str,
    matches: Sequence[Match],
    keypoint0: Keypoint0 = "label",
    crop_keypoints: Mapping[str, Sequence[np.ndarray]] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Report:
    """Report by the paper's protocols.

    dataset: rhd, stb, dexter or freihand, for the published rows. crop_keypoints: what PoseNet finds in crops
    from the labels, by the crop rule's name ('' for the family's own).
    image_size: width and height of the images, for RHD's figures in the authors' 240x320 frame.
    """
    report = Report()
    found, side = protocols.detection(matches), protocols.side_correct(matches)
    report.figures = {"detection": found, "side": side}
    report.add("hand answered", found["answered"], "{:.1%}")
    report.add("hand found (box IoU > 0.5)", found["found"], "{:.1%}")
    if side:
        report.add("side correct, answered hands", side["of_answered"], "{:.1%}")
    for rule, keypoints in (crop_keypoints or {}).items():
        errors = protocols.crop_errors_px(keypoints, matches, keypoint0)
        protocol, text = "2d_true_crops", "2D, true crops"
        if rule:
            protocol, text = f"{protocol}_{rule}", f"{text} ({rule})"
        _statistics(report, dataset, protocol, text, "px", errors)
    _statistics(report, dataset, "2d_full", "2D, full pipeline", "px", protocols.errors_px(matches, keypoint0))
    if dataset == "rhd" and image_size:
        scale = (AUTHORS_FRAME[0] / image_size[0], AUTHORS_FRAME[1] / image_size[1])
        errors = protocols.errors_px(matches, keypoint0, scale)
        _statistics(report, dataset, "2d_full_240x320", "2D, full pipeline, 240x320 px", "px", errors)
    for placement, text in (
        ("true_scale", "3D, true root and scale"),
        ("root_scale", "3D, root- and scale-aligned"),
        ("procrustes", "3D, Procrustes-aligned"),
    ):
        errors = protocols.errors_mm(matches, protocols.PLACEMENTS[placement], keypoint0)
        if len(errors):
            _statistics(report, dataset, f"3d_{placement}", text, "mm", errors)
    absolute = protocols.errors_absolute_mm(matches, keypoint0)
    if np.isfinite(absolute).any():
        _statistics(report, dataset, "3d_camera", "3D in the camera frame, hands with metres", "mm", absolute)
    return report


def _statistics(report: Report, dataset: str, protocol: str, text: str, unit: str, errors: np.ndarray) -> None:
    summary = protocols.summary_of(errors, protocols.MAX_PX if unit == "px" else protocols.MAX_MM)
    report.figures[protocol] = summary
    references = REFERENCES.get((dataset, protocol), ())
    limit = f"0-{summary['thresholds'][-1]:.0f} {unit}"
    report.add(f"{text}: AUC {limit}", summary["auc"], "{:.3f}", _quoted(references, "auc", "{:.3f}"))
    report.add(f"   median {unit}", summary["median"], "{:.2f}", _quoted(references, "median", "{:.2f}"))
    mean = summary.get("found_mean")
    report.add(f"   mean {unit}, found hands", mean, "{:.2f}", _quoted(references, "mean", "{:.2f}"))
    if unit == "mm":
        thresholds, curve = np.array(summary["thresholds"]), np.array(summary["curve"])
        upper = thresholds >= 20
        summary["auc_20_50"] = float(auc(thresholds[upper], curve[upper]))
        others = REFERENCES.get((dataset, f"{protocol}_20_50"), ())
        report.add("   AUC 20-50 mm", summary["auc_20_50"], "{:.3f}", _quoted(others, "auc", "{:.3f}"))
        if others:
            part = {"thresholds": thresholds[upper], "curve": curve[upper], "auc": summary["auc_20_50"]}
            _curve(report, f"{text}, 20-50 mm", unit, part, others)
    if protocol not in ("3d_camera",):
        _curve(report, text, unit, summary, references)


def _curve(report: Report, title: str, unit: str, summary: dict[str, Any], references: tuple[Reference, ...]) -> None:
    thresholds, values = np.array(summary["thresholds"]), np.array(summary["curve"])
    report.curves.append(Curve(title, unit, thresholds, values, summary["auc"], references))


def _quoted(references: Sequence[Reference], what: str, pattern: str) -> str:
    known = [(getattr(reference, what), reference.name) for reference in references]
    return "; ".join(f"{pattern.format(value)} {name}" for value, name in known if value is not None)


def _peer(peer: dict[str, float], key: str, pattern: str) -> str:
    return f"{pattern.format(peer[key])} MediaPipe Hands" if key in peer else ""
