"""Options of the estimator that several commands share."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.hands import SCALE_SOURCES
from hand_pose_3d.settings import described


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


def _option(name: str, *flags: str, kind: click.ParamType | None = None, text: str = "") -> Callable[[Any], Any]:
    """The option for a setting of the estimator; kind, text: where they differ from the setting's."""
    (entry,) = (each for each in dataclasses.fields(EstimatorConfig) if each.name == name)
    metadata, default = entry.metadata, entry.default
    if kind is None and metadata["choices"]:
        kind = click.Choice(metadata["choices"])
    elif kind is None and metadata["low"] is not None:
        kind = (click.IntRange if isinstance(default, int) else FiniteRange)(metadata["low"], metadata["high"])
    return click.option(
        *flags,
        "--" + name.replace("_", "-"),
        name,
        type=kind,
        default=default,
        is_flag=isinstance(default, bool),
        help=text or described(entry),
    )


_OPTIONS = (
    _option("model"),
    _option("weights", kind=NamedPath(path_type=Path)),
    _option("device"),
    _option("precision"),
    _option("threads"),
    _option("max_hands"),
    _option("hand_side", "--side"),
    _option("mirrored"),
    _option("search"),
    _option("keypoints"),
    _option(
        "scale_source",
        kind=click.Choice([each for each in SCALE_SOURCES if each != "depth"]),  # no command reads depth images
        text="Where metres come from, given a calibrated camera; auto is --reference-length.",
    ),
    _option("reference_length"),
    _option("score_threshold"),
)


def say_without_camera(camera: object) -> None:
    """A line on standard error where options about metres are given, and no camera, which metres need."""
    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    names = [name for name in ("scale_source", "reference_length") if context.get_parameter_source(name) == given]
    if camera is None and names:
        options = " and ".join("--" + name.replace("_", "-") for name in names)
        click.echo(f"{options}: without a calibrated camera there are no metres", err=True)


def estimator_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the estimator's options to a command; they arrive as keywords of HandPoseEstimator."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
