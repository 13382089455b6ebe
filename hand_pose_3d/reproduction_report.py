"""The report of a reproduction, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hand_pose_3d import __version__
from hand_pose_3d.evaluation.report import Table, liftings
from hand_pose_3d.rendering.actions import EVALUATION, TRAINING
from hand_pose_3d.reproduction_config import (
    CHARACTERS,
    EVALUATION_FRAMES,
    LARGEST_RATE,
    TRAINING_FRAMES,
    ReproductionConfig,
)

_PAPER_NOTES = (
    "Recipe: section 5 of the paper and its code. Differences: HandSegNet and PoseNet start from random weights (He et "
    "al., ICCV 2015), where the authors' start from those of Convolutional Pose Machines; keypoint 0 is the wrist and "
    "the unit the index finger's first bone; the images are renders of our own "
    "unless data are named above, and never STB, on which the authors trained, too. A schedule that time shortens has "
    "the steps of its learning rate at the same shares, and the rate raised by as much as it is shortened, to at most "
    f"{LARGEST_RATE:g}. Not among the steps: evaluation on STB and Dexter (`hand_pose_3d evaluate`), and the "
    "classification of signs."
)

_LITE_NOTES = "Training continues from the shipped weights, which were trained on photographs as well as renders."


def _how(results: Mapping[str, Any]) -> list[str]:
    """How the networks were trained, as far as a run recorded it."""
    rows = {step: row for step, row in results.items() if "batch" in row}
    if not rows:
        return []
    each = ", ".join(f"{step} {row['batch']} at {row['rate']:g} in {row['precision']}" for step, row in rows.items())
    return [f"Images a step, highest learning rate, and arithmetic: {each}."]


def report_markdown(
    config: ReproductionConfig, roots: Sequence[Path], results: Mapping[str, Any], seconds: Mapping[str, float]
) -> str:
    """REPORT.md.

    Args:
        config: what was reproduced.
        roots: folders of the data.
        results: what each finished step left, as in `reproduction.json`.
        seconds: that each step took.

    Returns:
        The report in Markdown, with links to the curves and plots beside it.
    """
    paper, machine, measured = config.model == "paper", results["evaluation"]["machine"], results["evaluation"]
    minutes_of = {step: f"{taken / 60:.1f}" for step, taken in seconds.items()}
    data = f"Existing data: {', '.join(f'`{root}`' for root in roots)}."
    if "data" in results:
        made = results["data"]
        frames = {split: f"{facts['frames']:,}" for split, facts in made.items()}
        actions = {split: facts["actions"] for split, facts in made.items()}
        data = (
            f"Rendered: {frames['training']} frames for training and {frames['evaluation']} for evaluation (the paper: "
            f"{TRAINING_FRAMES:,} and {EVALUATION_FRAMES:,}) of {CHARACTERS['training']} and "
            f"{CHARACTERS['evaluation']} characters, as in the paper, in {actions['training']} and "
            f"{actions['evaluation']} actions (the paper: {len(TRAINING)} and {len(EVALUATION)}); the splits share "
            f"none. {minutes_of['data']} minutes."
        )
    trained = Table("network", ("images seen", "of the schedule", "minutes", "on held-out images"))
    for step, row in results.items():
        if "images" in row:
            share = f"{row['images'] / row['of']:.1%}" if row["images"] else "-"
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in row["figures"].items())
            trained.rows.append((step, f"{row['images']:,}", share, minutes_of[step], metrics))
    bounded = "by the whole schedules" if config.minutes is None else f"within {config.minutes:g} minutes"
    parts = [
        f"# {'The paper by its own recipe' if paper else 'The lite family on renders'}",
        f"`hand_pose_3d reproduce --model {config.model}`, version {__version__}, {bounded}, on "
        f"{machine['gpu'] or machine['cpu']} with {machine['cores']} cores; {sum(seconds.values()) / 60:.0f} minutes.",
        "## Data",
        data,
        "## Training",
        trained.markdown(),
        "Curves: "
        + ", ".join(f"[{step}](runs/{step}/curves.png)" for step, row in results.items() if row.get("images")),
        *_how(results),
        _PAPER_NOTES if paper else _LITE_NOTES,
        "## Evaluation",
        f"{measured['hands']} held-out hands, by the paper's protocols, beside what it and its code's README publish.",
        *(Table(t["title"], tuple(t["columns"]), t["rows"]).markdown() for t in measured["tables"]),
        "![PCK curves, and published AUCs](pck.png)",
    ]
    if paper:
        rows = {step.partition("/")[2]: row["figures"] for step, row in results.items() if "/" in step}
        parts += ["## Lifting approaches", "From maps of the true keypoints, as in the paper's Table 2."]
        parts += [liftings(rows).markdown()]
    scores = results.get("scores", {})
    if "why_not" in scores:
        parts += ["## Scores of hands", f"Not calibrated on these data: {scores['why_not']}."]
    elif scores:
        parts += [
            "## Scores of hands",
            f"Calibrated on {scores['predictions']:.0f} predictions on held-out frames, {scores['right']:.0%} of them "
            f"right; expected calibration error {scores['hand_calibration_error']:.3f} on the half not fitted.",
        ]
    parts += [
        "## Weights",
        f"`weights/` holds the three networks, for `--weights` of every command, `HandPoseEstimator(model="
        f'"{config.model}", weights=...)` and the node\'s parameters `model` and `weights`:',
        f"```console\nhand_pose_3d predict photo.jpg --model {config.model} --weights weights --overlay out\n```",
    ]
    return "\n\n".join(parts) + "\n"
