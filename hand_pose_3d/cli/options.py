"""Options of the estimator that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number in a range; NaN and infinity, which click lets pass, are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or click's error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class NamedPath(click.Path):
    """A file or folder that is named: an empty name, of a variable that is not set in a shell, would be this folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or click's error."""
        if value == "":
            self.fail("the name is empty; . is the folder in which you are.", param, ctx)
        return super().convert(os.path.expanduser(value), param, ctx)  # of --json=~/x a shell expands nothing


_OPTIONS = (
    click.option("--model", type=click.Choice(["auto", "lite", "paper"]), default="auto", help="Networks; auto: lite."),
    click.option("--weights", type=NamedPath(path_type=Path), help="Folder with other weights."),
    click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N."),
    click.option("--precision", default="auto", help="auto, float32, float16, bfloat16 or int8."),
    click.option(
        "--threads",
        type=click.IntRange(0, 64),
        default=0,
        help="Processor threads; 0: one in videos and fast searches (lite), else two.",
    ),
    click.option("--max-hands", type=click.IntRange(1, 16), default=2, help="Most hands in one image."),
    click.option(
        "--side",
        "hand_side",
        type=click.Choice(["auto", "left", "right"]),
        default="auto",
        help="Side of every hand, if known.",
    ),
    click.option("--mirrored", is_flag=True, help="The images are mirrored, as selfie cameras give them."),
    click.option(
        "--search",
        type=click.Choice(["auto", "fast", "thorough"]),
        default="auto",
        help="fast: one pass an image, coarse and closer in alternation; thorough: all scales; auto: fast in videos.",
    ),
    click.option(
        "--keypoints",
        type=click.Choice(["auto", "fast", "thorough"]),
        default="auto",
        help="fast: read by one network; thorough (lite): refined by a second one; auto: thorough in single images "
        "that are searched thoroughly, if the weights have it.",
    ),
    click.option(
        "--scale-source",
        type=click.Choice(["auto", "none", "assumed", "calibrated"]),  # no command reads depth images
        default="auto",
        help="Where metres come from, given a calibration; auto: --reference-length.",
    ),
    click.option(
        "--reference-length",
        type=FiniteRange(0.005, 0.2),
        default=0.042,
        help="Length of the index finger's first bone, metres.",
    ),
    click.option("--score-threshold", type=FiniteRange(0, 1), default=0.9, help="Hands that score less are left out."),
)


def estimator_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the estimator's options to a command; they arrive as keywords of HandPoseEstimator."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
