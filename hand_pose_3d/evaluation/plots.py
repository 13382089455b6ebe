"""Pictures of PCK curves and AUCs, of precision over recall, and of tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hand_pose_3d.evaluation.references import Reference
from hand_pose_3d.outputs import check_plot, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _OTHERS, _PEER = "#2a6fdb", "#9aa3ad", "#d9480f"


@dataclass(frozen=True, eq=False)
class Curve:
    """One PCK curve of ours. thresholds, values: (T,); unit: 'px' or 'mm'; references: published AUCs beside it."""

    title: str
    unit: str
    thresholds: np.ndarray
    values: np.ndarray
    auc: float
    references: tuple[Reference, ...] = ()


def plot_pck(path: str | Path, curves: Sequence[Curve], title: str, name: str = "this work") -> None:
    """Write a picture: a column per curve, the PCK above and its AUC beside the published ones below.

    name: of what is measured, at its bars.

    The published work gives AUCs, not points of its curves, so bars stand for it. Format by the file's suffix.
    """
    from matplotlib.figure import Figure

    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.6 * columns, 6.0 * rows), layout="constrained")
    cells = figure.subfigures(rows, columns, squeeze=False).flat
    for cell, curve in zip(cells, curves, strict=False):
        above, below = cell.subplots(2, 1, height_ratios=[3, 1.4])
        x, y = curve.thresholds, curve.values
        above.plot(x, y, color=_OURS, linewidth=2)
        above.fill_between(x, y, color=_OURS, alpha=0.12)
        above.set(title=curve.title, xlabel=f"error threshold [{curve.unit}]", ylabel="share of correct keypoints")
        above.set(xlim=(x[0], x[-1]), ylim=(0, 1))
        above.grid(alpha=0.3)
        bars = [(name, curve.auc, _OURS)]
        bars += [(other.name, other.auc, _OTHERS) for other in curve.references if other.auc is not None]
        names, values, colours = zip(*reversed(bars), strict=True)
        drawn = below.barh(range(len(bars)), values, height=0.6, color=colours)
        below.bar_label(drawn, fmt="%.3f", padding=3, fontsize=8)
        below.margins(x=0.15)  # room for the numbers
        below.set(xlim=(0, None), ylim=(-0.8, max(len(bars), 3) - 0.2), xlabel="AUC")
        below.set_yticks(range(len(bars)), [_wrapped(name) for name in names], fontsize=8)
        below.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    save_figure(figure, path)


def plot_precision_recall(
    path: str | Path,
    recall: Sequence[float],
    precision: Sequence[float],
    points: Sequence[tuple[str, float, float]],
    title: str,
    name: str = "this work",
) -> None:
    """Write a picture of precision over recall.

    Args:
        path: format by the suffix.
        recall, precision: the curve, over falling score thresholds.
        points: name, recall and precision of operating points; the first is on the curve, others are peers'.
        title, name: of the picture and of the curve.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 5.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(recall, precision, color=_OURS, linewidth=2, label=name)
    for index, (label, x, y) in enumerate(points):
        marker, colour = ("o", _OURS) if index == 0 else ("D", _PEER)
        axis.plot([x], [y], marker, color=colour, markersize=8, label=f"{label}: recall {x:.1%}, precision {y:.1%}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(min([0.4, *precision]) - 0.02, 1.02), title=title)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left", fontsize=8)
    save_figure(figure, path)


def plot_sequences(path: str | Path, measured: Mapping[str, dict[str, Any]], title: str) -> None:
    """Write a picture of tracking: time until hands are followed, jitter when still and lag in motion, as shares.

    measured: name and metrics of each tracker. Format by the file's suffix.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for (name, metrics), colour in zip(measured.items(), (_OURS, _PEER), strict=False):
        until = metrics["until_followed_s"]
        for some, style in ((until, "-"), ([entry for entry in until if entry["small"]], ":")):
            times = [np.inf if entry["seconds"] is None else entry["seconds"] for entry in some]
            label = name if style == "-" else f"{name}, small hands"
            _shares(left, times, label, color=colour, linestyle=style)
        for key, text, style in (("raw", "as estimated", "--"), ("smooth", "smoothed", "-")):
            label = f"{name}, {text}"
            jitter = [100 * entry[f"{key}_px"] / entry["size_px"] for entry in metrics["jitter"]]
            _shares(middle, jitter, label, color=colour, linestyle=style)
            _shares(right, [1e3 * entry[key] for entry in metrics["lag_s"]], label, color=colour, linestyle=style)
    left.axvline(0.5, color=_OTHERS, linewidth=1)
    left.set(title="hands that come in", xlabel="time until followed [s]", xlim=(0, 1.5))
    middle.set(title="hands that keep still", xlabel="jitter [% of the hand]", xlim=(0, None))
    right.set(title="hands that move", xlabel="lag [ms]")
    for axis in (left, middle, right):
        axis.set(ylabel="share of them", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, loc="lower right")
        else:
            axis.text(0.5, 0.5, "no such hand", ha="center", transform=axis.transAxes)
    figure.suptitle(title)
    save_figure(figure, path)


def _shares(axis: Any, values: Sequence[float], label: str, **style: Any) -> None:
    """Draw which share of values is at most as large."""
    if values:
        ordered = np.sort(values)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        known = np.isfinite(ordered)
        x, y = [ordered[0], *ordered[known]], [0.0, *shares[known]]
        axis.step(x, y, where="post", label=f"{label} ({len(ordered)})", **style)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a matplotlib figure, with the program's name in it; an earlier one is replaced when it is whole."""
    path = check_plot(path)
    form = path.suffix.lstrip(".").lower() or "png"
    maker = "Software" if form == "png" else "Creator"
    with replacing(path) as stream:
        figure.savefig(stream, dpi=130, format=form, metadata={maker: "hand_pose_3d"})


def _wrapped(name: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, 26))
