"""What the command line and the node's parameters offer is what the library's dataclasses have."""

import dataclasses
import inspect

import click
import pytest

from hand_pose_3d.cli import benchmark, convert_weights, evaluate, export, live, predict, render, reproduce, train
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.evaluation.benchmark.timing import Plan
from hand_pose_3d.families import FAMILIES
from hand_pose_3d.placement import REFERENCE_LENGTH_M, REFERENCE_LENGTH_RANGE_M
from hand_pose_3d.rendering.dataset import ENGINES, RenderOptions
from hand_pose_3d.reproduction_config import SHARES, ReproductionConfig
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.skeleton import Side
from hand_pose_3d.training.loop import LoopConfig
from hand_pose_3d.training.stages import NETWORKS, build_lite_stage, build_paper_stage

COMMANDS = [
    module.command for module in (benchmark, convert_weights, evaluate, export, live, predict, render, reproduce, train)
]
NODE_ALONE = {"weights", "tracking"}
"""Parameters whose meaning or default is the node's own."""


def choices(command: click.Command, name: str) -> tuple[str, ...]:
    (option,) = (p for p in command.params if f"--{name}" in p.opts)
    assert isinstance(option.type, click.Choice)
    return tuple(option.type.choices)


def defaults(command: click.Command) -> dict[str, object]:
    return command.make_context("", [], resilient_parsing=True).params


def test_parameters_of_the_node_are_settings_of_the_estimator():
    ours = {f.name: f for f in dataclasses.fields(EstimatorConfig)}
    shared = [f for f in dataclasses.fields(NodeParameters) if f.name in ours and f.name not in NODE_ALONE]
    assert len(shared) >= 8
    for parameter in shared:
        assert parameter.default == ours[parameter.name].default, parameter.name
        for choice in parameter.metadata["choices"]:
            if parameter.name != "precision":  # depends on the device
                EstimatorConfig(**{parameter.name: choice})
        for bound in (parameter.metadata["low"], parameter.metadata["high"]):
            if bound is not None:
                EstimatorConfig(**{parameter.name: type(parameter.default)(bound)})
    with pytest.raises(InvalidInputError):
        EstimatorConfig(max_hands=17)


def test_the_reference_length_is_the_same_everywhere():
    low, high = REFERENCE_LENGTH_RANGE_M
    (option,) = (p for p in predict.command.params if p.name == "reference_length")
    (parameter,) = (f for f in dataclasses.fields(NodeParameters) if f.name == "reference_length")
    assert option.default == parameter.default == REFERENCE_LENGTH_M
    assert (option.type.min, option.type.max) == (parameter.metadata["low"], parameter.metadata["high"]) == (low, high)
    for length in (0.9 * low, 1.1 * high):
        with pytest.raises(InvalidInputError, match=f"reference_length must lie in {low}..{high} m"):
            EstimatorConfig(reference_length=length)


def test_one_option_names_the_networks():
    assert not [command.name for command in COMMANDS for p in command.params if "--family" in p.opts]
    assert choices(predict.command, "model") == ("auto", *FAMILIES)
    assert choices(export.command, "model") == choices(train.command, "model") == tuple(FAMILIES) == tuple(NETWORKS)
    assert set(choices(benchmark.command, "model")) - set(FAMILIES) == {"mediapipe"}
    assert choices(reproduce.command, "model") == tuple(SHARES)
    assert tuple(NETWORKS["lite"]) == train.TRAINING_STAGES
    assert set(train.TRAINING_STAGES) - set(NETWORKS["paper"]) == {"fineposenet"}


def test_sides_are_those_of_the_skeleton():
    for command in (predict.command, live.command, evaluate.command):
        assert choices(command, "side") == ("auto", Side.LEFT.label, Side.RIGHT.label)


def test_rendering_offers_what_render_options_have(tmp_path):
    fields = {f.name: f.default for f in dataclasses.fields(RenderOptions)}
    for name, value in defaults(render.command).items():
        if name in fields and name not in ("out", "count"):
            assert value == fields[name], name
    assert choices(render.command, "engine") == ENGINES
    for split in choices(render.command, "split"):
        RenderOptions(tmp_path, 1, split)


def test_reproduction_offers_its_configuration():
    fields = {f.name: f.default for f in dataclasses.fields(ReproductionConfig) if f.name != "out"}
    assert {name: value for name, value in defaults(reproduce.command).items() if name != "out"} == fields


def test_training_and_benchmark_offer_their_configurations():
    assert choices(train.command, "precision")[0] == LoopConfig(images=1).precision
    given = defaults(train.command)
    for build in (build_lite_stage, build_paper_stage):
        settings = {p.name: p.default for p in inspect.signature(build).parameters.values() if p.kind == p.KEYWORD_ONLY}
        offered = settings.keys() & given.keys()
        assert offered and {name: given[name] for name in offered} == {name: settings[name] for name in offered}
    given = defaults(benchmark.command)
    assert (given["rounds"], given["warm_up"], given["limit"]) == (Plan.rounds, Plan.warm_up, Plan.limit_s)
