"""Reports for each kind of data set: metrics, a table beside published ones, and curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hand_pose_3d.evaluation import matching, protocols
from hand_pose_3d.evaluation.boxes import share as share_of
from hand_pose_3d.evaluation.matching import Keypoint0, Match
from hand_pose_3d.evaluation.metrics import auc
from hand_pose_3d.evaluation.plots import Curve
from hand_pose_3d.evaluation.references import LIFTING_MEDIAN_MM, REFERENCES, Reference
from hand_pose_3d.hands import ScaleSource

if TYPE_CHECKING:
    from hand_pose_3d.estimator import HandPoseEstimator

_DISTANCES_M = (0.0, 0.3, 0.5, 0.8, math.inf)
"""Bounds of the ranges of distance by which the error of the absolute position is reported."""

AUTHORS_FRAME = (320, 240)
"""Width and height to which the authors resize RHD's 320x320 images before the full pipeline."""

_GIVEN_SIDE = "_side_told"
"""Ending of protocols for which the networks were given the side, as the authors' were for all their results."""


@dataclass(eq=False)
class Table:
    """Rows of a name and one text per column, under a title."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def text(self) -> str:
        """The table with aligned columns."""
        head = (self.title, *self.columns)
        widths = [max(len(row[column]) for row in [head, *self.rows]) for column in range(len(head))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in [head, *self.rows]
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])

    def markdown(self) -> str:
        """The table in Markdown."""
        head = (self.title, *self.columns)
        rows = [head, ("---", *("---:" for _ in self.columns)), *self.rows]
        return "\n".join("| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows)


@dataclass(eq=False)
class Report:
    """Metrics by name for JSON; tables for the terminal; curves for the plot. name: of what is measured."""

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def text(self) -> str:
        """All tables."""
        return "\n\n".join(table.text() for table in self.tables)


def _text(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)


def photographs(matches: Sequence[Match], name: str = "this work") -> Report:
    """Report on folders with keypoints.json: distances, detection, side and, with metric labels, 3D."""
    report = Report(name)
    table = Table("", (name,))
    report.tables.append(table)

    def add(measure: str, value: float | None, pattern: str) -> None:
        table.rows.append((measure, _text(value, pattern)))

    found, errors = protocols.detection(matches), protocols.errors_px(matches)
    flat, side = protocols.distances(errors, matches), protocols.side_correct(matches)
    summary = protocols.summary_of(errors, protocols.MAX_PX)
    report.metrics = {"detection": found, "2d": flat | {"summary": summary}}
    add("hand predicted", found["answered"], "{:.1%}")
    add("hand found (box IoU > 0.5)", found["found"], "{:.1%}")
    add("further hands per image", found["other_hands_per_image"], "{:.2f}")
    add("2D median px", flat["median_px"], "{:.2f}")
    add("   over found hands", flat["found_median_px"], "{:.2f}")
    add("   over pooled keypoints", flat["pooled_median_px"], "{:.2f}")
    add("2D mean px, found hands", flat["found_mean_px"], "{:.2f}")
    add("2D AUC 0-30 px", summary["auc"], "{:.3f}")
    add("median distance, share of hand size", flat["median_share_of_hand"], "{:.2%}")
    add("   over found hands", flat["found_median_share_of_hand"], "{:.2%}")
    if side:
        report.metrics["side"] = side
        add("side correct, predicted hands", side["of_answered"], "{:.1%}")
        add("side correct, all hands", side["of_all"], "{:.1%}")
    _curve(report, "2D", "px", summary, ())
    for placement, text in (("root_scale", "root- and scale-aligned"), ("procrustes", "Procrustes-aligned")):
        mm = protocols.errors_mm(matches, protocols.PLACEMENTS[placement])
        if not len(mm):
            continue
        summary = protocols.summary_of(mm, protocols.MAX_MM)
        report.metrics[f"3d_{placement}"] = summary
        add(f"3D {text}, mean mm, found hands", summary.get("found_pooled_mean"), "{:.2f}")
        add("   AUC 0-50 mm", summary["auc"], "{:.3f}")
        add("   AUC 0-50 mm, found hands", summary.get("found_auc"), "{:.3f}")
        _curve(report, f"3D {text}", "mm", summary, ())
    _groups(report, matches)
    return report


def _groups(report: Report, matches: Sequence[Match], keypoint0: Keypoint0 = "label") -> None:
    """Errors by the number of folded fingers and by the view, where the labels are metric."""
    groups = protocols.groups(matches)
    if not groups:
        return
    table = Table("hands", ("number", "2D median px", "3D root- and scale-aligned, mean mm"))
    report.tables.append(table)
    report.metrics["groups"] = {}
    for name, members in groups.items():
        flat = protocols.distances(protocols.errors_px(members, keypoint0), members)["median_px"]
        mm = protocols.errors_mm(members, protocols.PLACEMENTS["root_scale"], keypoint0)
        mean = protocols.summary_of(mm, protocols.MAX_MM).get("found_pooled_mean") if len(mm) else None
        table.rows.append((name, str(len(members)), _text(flat, "{:.2f}"), _text(mean, "{:.1f}")))
        report.metrics["groups"][name] = {"hands": len(members), "median_px": flat, "root_scale_mean_mm": mean}


def boxes(measured: Mapping[str, dict[str, Any]]) -> Report:
    """Report on folders with boxes.json: a column for each detector. measured: its name and its detection metrics."""
    return _comparison(measured, _detection_rows)


def _comparison(measured: Mapping[str, dict[str, Any]], rows_of: Callable[[dict[str, Any]], list[Any]]) -> Report:
    name, *_ = measured
    report = Report(name, dict(measured[name]))
    columns = [rows_of(metrics) for metrics in measured.values()]
    rows = [(rows[0][0], *(cell for _, cell in rows)) for rows in zip(*columns, strict=True)]
    report.tables.append(Table("", tuple(measured), rows))
    return report


def _share(entry: dict[str, Any], pattern: str = ".1%") -> str:
    return "-" if entry["share"] is None else f"{entry['share']:{pattern}} ({entry['count']}/{entry['of']})"


def _detection_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    threshold, false = metrics["threshold"], metrics["false_hands"]
    rows = [("score threshold", "its own" if threshold is None else f"{threshold:g}")]
    for entry in metrics["recall_by_size"]:
        bounds = [f"{100 * bound:g}%" for bound in (entry["from"], entry["to"]) if bound]
        text = f"{bounds[0]} and more" if entry["to"] is None else " to ".join(bounds)
        rows.append((f"recall, size {text if entry['from'] else f'under {text}'}", _share(entry)))
    rows += [(f"recall, {kind}", _share(entry)) for kind, entry in metrics["recall_by_kind"].items()]
    rows += [("recall", _share(metrics["recall"])), ("precision", _share(metrics["precision"]))]
    rows.append(("false hands per image with hands", _share(false["with_hands"], ".3f")))
    rows.append(("false hands per image without hands", _share(false["without_hands"], ".3f")))
    rows += [("   of both, twice on a hand", f"{false['twice']}"), ("   loosely on a hand", f"{false['loose']}")]
    rows.append(("average precision", _text(metrics["average_precision"], "{:.3f}")))
    rows.append(("side correct, found hands", _share(metrics["side"])))
    return rows


def measure(
    estimator: HandPoseEstimator,
    dataset: str,
    matches: Sequence[Match],
    keypoint0: Keypoint0 = "label",
    upscale_px: int = 0,
    name: str = "this work",
) -> Report:
    """:func:`paper` of an estimator of ours: with given sides, unless one is set, and, on RHD, on true crops too.

    matches: what :func:`matching.run` gives of the estimator, at least one.
    """
    crops, given, samples = {}, None, [item.sample for item in matches]
    if estimator.config.hand_side == "auto":
        given = matching.run_with_sides(estimator, matches, upscale_px=upscale_px)
    if dataset == "rhd":
        family = estimator.family  # the pose network alone, without the search for hands
        crops[""] = matching.run_on_crops(family, samples, matching.own_crop(family))
        if family.upright:
            crops["authors"] = matching.run_on_crops(family, samples, matching.true_crop)
    height, width = samples[0].image().shape[:2]
    return paper(dataset, matches, keypoint0, crops, given, (width, height), name)


def liftings(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """The paper's Table 2 of lifting approaches: median error, and what it is of the proposed one's, beside its own.

    rows: by approach its metrics on held-out renders, millimetres.
    """
    table = Table("lifting approach", ("median mm", "of proposed", "mean mm", "paper, RHD", "of proposed"))

    def cells(median: float | None, proposed: float) -> tuple[str, str]:
        return ("-", "-") if median is None else (f"{median:.1f}", f"{median / proposed:.0%}")

    for name, row in rows.items():
        median, relative = cells(row["renders_median_mm"], rows["proposed"]["renders_median_mm"])
        published = cells(LIFTING_MEDIAN_MM.get(name), LIFTING_MEDIAN_MM["proposed"])
        table.rows.append((name, median, relative, f"{row['renders_mean_mm']:.1f}", *published))
    return table


def sequences(measured: Mapping[str, dict[str, Any]]) -> Report:
    """Report on labelled videos: a column for each tracker. measured: its name and its metrics."""
    return _comparison(measured, _tracking_rows)


def _tracking_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    def rate(count: int | None, minutes: float) -> str:
        return "-" if count is None or not minutes else f"{count / minutes:.1f} ({count})"

    def middle(values: Sequence[float | None], pattern: str) -> str:
        known = [math.inf if value is None else value for value in values]
        median = float(np.median(known)) if known else math.nan
        return pattern.format(median) if math.isfinite(median) else "never" if known else "-"

    false, minutes, followed = metrics["false_hands"], metrics["minutes"], metrics["followed_minutes"]
    rows = [
        ("visible hands found, over all frames", _share(metrics["recall"])),
        ("precision", _share(metrics["precision"])),
        ("false hands a minute", rate(false["times"], minutes)),
        ("   of them on no hand", rate(false["on_no_hand"], minutes)),
    ]
    until = metrics["until_followed_s"]
    for text, entries in (
        ("followed within 0.5 s, all", until),
        ("   small hands, under 7.5 %", [entry for entry in until if entry["small"]]),
    ):
        below = "   " + " " * (len(text) - len(text.lstrip()))
        seconds = [math.inf if entry["seconds"] is None else entry["seconds"] for entry in entries]
        rows.append((text, _share(share_of(sum(value <= 0.5 for value in seconds), len(seconds)))))
        rows.append((f"{below}time until then, median s", middle(seconds, "{:.2f}")))
    rows += [
        ("identity switches a minute", rate(metrics["identity_switches"], followed)),
        ("side switches a minute", rate(metrics["side_switches"], followed)),
        ("side correct, found hands", _share(metrics["side"])),
    ]
    jitter, lags, noise = metrics["jitter"], metrics["lag_s"], metrics["noise"]
    rows.append(("times in which a hand keeps still; moves", f"{len(jitter)}; {len(lags)}"))
    for key, text in (("raw", "as estimated"), ("smooth", "smoothed")):
        rows.append((f"jitter when still, {text}, px", middle([entry[f"{key}_px"] for entry in jitter], "{:.2f}")))
        of_hand = [entry[f"{key}_px"] / entry["size_px"] for entry in jitter]
        rows.append(("   share of the hand", middle(of_hand, "{:.2%}")))
        known = [entry[f"{key}_mm"] for entry in jitter if entry[f"{key}_mm"] is not None]
        rows.append(("   in space, mm", middle(known, "{:.1f}")))
        rows.append((f"lag in motion, {text}, ms", middle([1e3 * entry[key] for entry in lags], "{:.0f}")))
    for key, text, pattern in (
        ("pixels", "noise of keypoints, share of the hand", "{:.2%}"),
        ("pose", "   of the relative pose, reference bones", "{:.3f}"),
        ("viewpoint", "   of the viewpoint, radians", "{:.3f}"),
        ("correlation", "   correlation from frame to frame", "{:.2f}"),
    ):
        rows.append((text, "-" if noise is None else pattern.format(noise[key])))
    return rows


def paper(
    dataset: str,
    matches: Sequence[Match],
    keypoint0: Keypoint0 = "label",
    crop_keypoints: Mapping[str, Sequence[np.ndarray]] | None = None,
    given_sides: Sequence[Match] | None = None,
    image_size: tuple[int, int] | None = None,
    name: str = "this work",
) -> Report:
    """Report by the paper's protocols.

    dataset: rhd, stb, dexter or freihand, for the published rows. crop_keypoints: what PoseNet finds in crops
    from the labels, by the crop rule's name ('' for the family's own).
    given_sides: matches whose sides were given to the networks, as the authors' evaluation does, for the 3D metrics.
    image_size: width and height of the images, for RHD's metrics in the authors' 240x320 frame.
    """
    report = Report(name)
    found, side = protocols.detection(matches), protocols.side_correct(matches)
    report.metrics = {"detection": found, "side": side}
    rows = [("hand predicted", found["answered"]), ("hand found (box IoU > 0.5)", found["found"])]
    rows += [("side correct, predicted hands", side["of_answered"])] if side else []
    texts: list[tuple[str, ...]] = [(what, _text(share, "{:.1%}")) for what, share in rows]
    false = protocols.false_hands(matches)
    if false is not None:
        report.metrics["detection"] = {**found, "false_hands_per_image": false}
        texts.append(("false hands per image", f"{false:.3f}"))
    report.tables.append(Table("", (name,), texts))
    for rule, keypoints in (crop_keypoints or {}).items():
        errors = protocols.crop_errors_px(keypoints, matches, keypoint0)
        protocol, text = "2d_true_crops", "2D, true crops"
        if rule:
            protocol, text = f"{protocol}_{rule}", f"{text} ({rule})"
        # Published rows are of the authors' crops: beside those of turned ones they stand at "authors" only.
        published = "2d_true_crops" if rule or "authors" not in (crop_keypoints or {}) else ""
        _statistics(report, dataset, protocol, text, "px", errors, published)
    _statistics(report, dataset, "2d_full", "2D, full pipeline", "px", protocols.errors_px(matches, keypoint0))
    if dataset == "rhd" and image_size:
        scale = (AUTHORS_FRAME[0] / image_size[0], AUTHORS_FRAME[1] / image_size[1])
        errors = protocols.errors_px(matches, keypoint0, scale)
        _statistics(report, dataset, "2d_full_240x320", "2D, full pipeline, 240x320 px", "px", errors)
    for protocol, text, items in (
        ("3d_true_scale", "3D, true root and scale", matches),
        (f"3d_true_scale{_GIVEN_SIDE}", "3D, true root and scale, given side", given_sides or ()),
        ("3d_root_scale", "3D, root- and scale-aligned", matches),
        ("3d_procrustes", "3D, Procrustes-aligned", matches),
    ):
        placement = protocols.PLACEMENTS[protocol.removeprefix("3d_").removesuffix(_GIVEN_SIDE)]
        errors = protocols.errors_mm(items, placement, keypoint0)
        if len(errors):
            _statistics(report, dataset, protocol, text, "mm", errors)
    absolute = protocols.errors_absolute_mm(matches, keypoint0)
    if np.isfinite(absolute).any():
        _statistics(report, dataset, "3d_camera", "3D in the camera frame, hands with metres", "mm", absolute)
    if dataset == "rhd":
        _positions(report, matches)
    _groups(report, matches, keypoint0)
    return report


def _positions(report: Report, matches: Sequence[Match]) -> None:
    """The wrist's absolute error by distance, and how often it is within twice the stated standard deviation."""
    table = Table("Wrist in the camera frame", ("hands", "median mm", "of distance", "in 2 sigma"))
    for source in (ScaleSource.ASSUMED, ScaleSource.CALIBRATED, ScaleSource.DEPTH):
        distance, error, stddev = protocols.wrist_errors_m(matches, source).T
        rows = report.metrics[f"wrist_{source.name.lower()}"] = []
        for low, high in ((0.0, math.inf), *itertools.pairwise(_DISTANCES_M)):
            here = (distance >= low) & (distance < high)
            if not here.any():
                continue
            row = {
                "from_m": low,
                "to_m": high if math.isfinite(high) else None,
                "hands": int(here.sum()),
                "median_mm": float(np.median(error[here]) * 1000),
                "median_of_distance": float(np.median((error / distance)[here])),
                "inside_2_sigma": float(np.mean((error < 2 * stddev)[here])),
            }
            rows.append(row)
            where = f"{low:g} to {high:g} m" if math.isfinite(high) else f"{low:g} m and more"
            cells = (f"{row['hands']}", f"{row['median_mm']:.0f}", f"{row['median_of_distance']:.1%}")
            table.rows.append((f"  {source.name}, {where}", *cells, f"{row['inside_2_sigma']:.1%}"))
    if table.rows:
        report.tables.append(table)


def _statistics(
    report: Report,
    dataset: str,
    protocol: str,
    text: str,
    unit: str,
    errors: np.ndarray,
    published: str | None = None,
) -> None:
    """published: the protocol of the published rows beside it, None for the same."""
    summary = protocols.summary_of(errors, protocols.MAX_PX if unit == "px" else protocols.MAX_MM)
    report.metrics[protocol] = summary
    protocol = protocol.removesuffix(_GIVEN_SIDE)
    references = REFERENCES.get((dataset, protocol if published is None else published), ())
    columns = (f"AUC 0-{summary['thresholds'][-1]:.0f} {unit}", f"median {unit}", f"mean {unit}, found")
    ours = (summary["auc"], summary["median"], summary.get("found_mean"))
    table = Table(text, columns)
    for name, row in [(report.name, ours), *((r.name, (r.auc, r.median, r.mean)) for r in references)]:
        table.rows.append((f"  {name}", _text(row[0], "{:.3f}"), _text(row[1], "{:.2f}"), _text(row[2], "{:.2f}")))
    report.tables.append(table)
    _curve(report, text, unit, summary, references)
    if unit == "mm":
        thresholds, curve = np.array(summary["thresholds"]), np.array(summary["curve"])
        upper = thresholds >= 20
        summary["auc_20_50"] = float(auc(thresholds[upper], curve[upper]))
        others = REFERENCES.get((dataset, f"{protocol}_20_50"), ())
        if others:
            rows: list[tuple[str, ...]] = [(f"  {report.name}", f"{summary['auc_20_50']:.3f}")]
            rows += [(f"  {other.name}", _text(other.auc, "{:.3f}")) for other in others]
            report.tables.append(Table(text, ("AUC 20-50 mm",), rows))
            part = {"thresholds": thresholds[upper], "curve": curve[upper], "auc": summary["auc_20_50"]}
            _curve(report, f"{text}, 20-50 mm", unit, part, others)


def _curve(report: Report, title: str, unit: str, summary: dict[str, Any], references: tuple[Reference, ...]) -> None:
    thresholds, values = np.array(summary["thresholds"]), np.array(summary["curve"])
    report.curves.append(Curve(title, unit, thresholds, values, summary["auc"], references))
