"""What the command line offers is what the library's dataclasses have."""

import dataclasses
import inspect

import click

from hand_pose_3d.cli import benchmark, convert_weights, evaluate, export, live, predict, render, reproduce, train
from hand_pose_3d.evaluation.benchmark.timing import Plan
from hand_pose_3d.families import FAMILIES
from hand_pose_3d.rendering.dataset import ENGINES, RenderOptions
from hand_pose_3d.reproduction_config import SHARES, ReproductionConfig
from hand_pose_3d.skeleton import Side
from hand_pose_3d.training.loop import LoopConfig
from hand_pose_3d.training.stages import NETWORKS, build_lite_stage, build_paper_stage

COMMANDS = [
    module.command for module in (benchmark, convert_weights, evaluate, export, live, predict, render, reproduce, train)
]


def choices(command: click.Command, name: str) -> tuple[str, ...]:
    (option,) = (p for p in command.params if f"--{name}" in p.opts)
    assert isinstance(option.type, click.Choice)
    return tuple(option.type.choices)


def defaults(command: click.Command) -> dict[str, object]:
    return command.make_context("", [], resilient_parsing=True).params


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
