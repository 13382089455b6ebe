"""Options that commands share say what the estimator does by itself."""

from typing import Any

import click
import pytest

from hand_pose_3d.cli import main
from hand_pose_3d.cli.options import estimator_options
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import EstimatorConfig


def test_defaults_are_the_estimators():
    @click.command()
    @estimator_options
    def command(**_): ...

    for name, value in command.make_context("command", []).params.items():
        assert value == getattr(EstimatorConfig(), name), name
    for option in command.params:
        if isinstance(option.type, click.Choice):
            for choice in option.type.choices:
                EstimatorConfig().changed({option.name: choice})
            with pytest.raises(InvalidInputError, match=", ".join(option.type.choices)):
                EstimatorConfig().changed({option.name: "banana"})
        if isinstance(option.type, click.IntRange | click.FloatRange):
            for bound, beyond in ((option.type.min, -1), (option.type.max, 1)):
                EstimatorConfig().changed({option.name: bound})
                with pytest.raises(InvalidInputError, match=option.name):
                    EstimatorConfig().changed({option.name: bound + beyond})


def test_numbers_are_finite():
    for name in main.list_commands(None):
        for option in main.get_command(None, name).params:
            if isinstance(option.type, click.types.FloatParamType):
                convert: Any = option.type.convert
                for value in ("nan", "inf"):
                    with pytest.raises(click.BadParameter, match="finite|range"):
                        convert(value, option, None)


def test_paths_are_named():
    for name in main.list_commands(None):
        for option in main.get_command(None, name).params:
            if isinstance(option.type, click.Path):
                with pytest.raises(click.BadParameter, match="the name is empty"):
                    option.type.convert("", option, None)
