"""One picture of a benchmark: stages, percentiles, cost against hands and image size, latency over ROS 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hand_pose_3d.evaluation.benchmark.timing import END_TO_END, OTHER, Setting
from hand_pose_3d.evaluation.plots import save_figure

_COLOURS = ("#2a6fdb", "#7fb2ff", "#f2a33a", "#4daf7c", "#b46fd0", "#c9ced6")
_PEER = "#9aa3ad"
_FAMILIES = {"lite": "#2a6fdb", "paper": "#4daf7c", "mediapipe": "#d9480f"}


def plot_benchmark(path: str | Path, report: dict[str, Any]) -> bool:
    """Write the picture of a report as `hand_pose_3d benchmark --json` writes it. Format by the file's suffix.

    False, and no file, where nothing in it has a picture.
    """
    from matplotlib.figure import Figure

    panels: list[tuple[Callable[[Any, Any], None], Any]] = []
    for name in dict.fromkeys(row["input"] for row in report["results"] if row["stage"] == END_TO_END):
        rows = [row for row in report["results"] if row["input"] == name]
        panels.append((_stages, (name, rows)))
    cost = report.get("cost", [])
    for key, label in (("shown", "hands in the image"), ("megapixels", "image size [megapixels]")):
        if rows := [row for row in cost if key in row]:
            panels.append((_cost, (key, label, rows)))
    if report.get("ros"):
        panels.append((_ros, report["ros"]))
    if not panels:
        return False
    columns = min(len(panels), 2)
    rows_of_panels = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6 * columns, 3.6 * rows_of_panels), layout="constrained")
    for (draw, data), axes in zip(panels, figure.subplots(rows_of_panels, columns, squeeze=False).flat):
        draw(axes, data)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    machine = report["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores" + (f", {machine['gpu']}" if machine["gpu"] else ""))
    save_figure(figure, path)
    return True


def _label(row: dict[str, Any]) -> str:
    return Setting.of(row).label


def _stages(axes: Any, data: tuple[str, Sequence[dict[str, Any]]]) -> None:
    name, rows = data
    labels = list(dict.fromkeys(_label(row) for row in rows if row["stage"] == END_TO_END))
    stages = list(dict.fromkeys(row["stage"] for row in rows if row["stage"] not in (END_TO_END, OTHER, "decode")))
    for y, label in enumerate(labels):
        own = {row["stage"]: row for row in rows if _label(row) == label}
        left = 0.0
        for stage, colour in zip([*stages, OTHER], _COLOURS):
            if stage in own:
                width = own[stage]["mean_ms"]
                axes.barh(y, width, left=left, color=colour, height=0.55)
                left += width
        total = own[END_TO_END]
        if left == 0.0:
            axes.barh(y, total["mean_ms"], color=_PEER, height=0.55)
        marks = [total[key] for key in ("p50_ms", "p95_ms", "p99_ms")]
        axes.plot(marks, [y] * 3, "k|-", linewidth=1, markersize=9)
        axes.annotate(
            f"{total['fps']:.0f} images/s", (max(marks[2], left), y), (5, 0), textcoords="offset points", va="center"
        )
    for stage, colour in zip([*stages, OTHER], _COLOURS):
        axes.barh(0, 0, color=colour, label=stage)
    if any(row["family"] == "mediapipe" for row in rows):
        axes.barh(0, 0, color=_PEER, label="whole")
    axes.set_yticks(range(len(labels)), [label.replace(", ", "\n") for label in labels])
    axes.margins(x=0.3)
    axes.set(xlabel="ms an image: bars mean, marks p50, p95, p99", title=f"Stages, {name}", xlim=(0, None))
    axes.set_ylim(len(labels) + 1.2, -0.6)
    axes.legend(fontsize=8, ncols=3, loc="lower right")


def _cost(axes: Any, data: tuple[str, str, Sequence[dict[str, Any]]]) -> None:
    key, label, rows = data
    several = len({(row["family"], row["mode"]) for row in rows}) < len({_label(row) for row in rows})
    for name in dict.fromkeys(_label(row) for row in rows):
        own = sorted((row for row in rows if _label(row) == name), key=lambda row: row[key])
        x = [row[key] for row in own]
        colour = None if several else _FAMILIES[own[0]["family"]]
        style = ("o-", ":") if own[0]["mode"] == "detect" else ("s--", ":")
        line = axes.plot(x, [row["p50_ms"] for row in own], style[0], color=colour, label=name)[0]
        axes.plot(x, [row["p95_ms"] for row in own], style[1], color=line.get_color(), linewidth=1)
    axes.set_xticks(sorted({row[key] for row in rows}))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.set(xlabel=label, ylabel="ms an image", ylim=(0, None), title="p50, and p95 (dotted)")
    axes.grid(alpha=0.3)
    if key == "shown":  # the other one has the same
        axes.legend(fontsize=8)


def _ros(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    several = len({(row["model"], row["precision"]) for row in rows}) > 1
    labels = [
        (f"{row['model']}, {row['precision']}\n" if several else "")
        + f"{row['width']}x{row['height']} at {row['rate_hz']:g} Hz"
        for row in rows
    ]
    for i, (key, colour) in enumerate((("p50_ms", _COLOURS[0]), ("p95_ms", _COLOURS[1]), ("p99_ms", _COLOURS[2]))):
        x = [k + 0.27 * (i - 1) for k in range(len(rows))]
        axes.bar(x, [row[key] or 0.0 for row in rows], 0.25, color=colour, label=key.removesuffix("_ms"))
    lost = [f"{label}\n{row['dropped']} of {row['published']} dropped" for label, row in zip(labels, rows)]
    axes.set_xticks(range(len(rows)), lost, fontsize=8)
    axes.axhline(33, color="k", linewidth=0.8, linestyle="--")
    axes.set(ylabel="ms, image published to hands received", title="Over ROS 2, between processes")
    axes.legend(fontsize=8)
