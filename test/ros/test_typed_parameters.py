"""1 is taken where 1.0 is meant, and 0 where "0" is meant."""

from __future__ import annotations

import pytest

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros import typed_parameters
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.settings import as_meant


@pytest.mark.parametrize(
    ("value", "default", "meant"),
    [
        (1, 0.5, 1.0),
        (0.5, 0.5, 0.5),
        (0, "", "0"),
        (2.5, "", "2.5"),
        (True, "", True),
        (True, 0.5, True),
        ("1", 0.5, "1"),
        (2.0, 2, 2.0),
        (1, None, 1),
    ],
)
def test_numbers_in_the_type_that_is_meant(value, default, meant):
    got = as_meant(value, default)
    assert got == meant and type(got) is type(meant)


def test_node_parameters_take_them():
    taken = NodeParameters.from_mapping({"score_threshold": 1, "smoothing.beta_px": 3, "tf_prefix": 7})
    assert (taken.score_threshold, taken.smoothing_beta_px, taken.tf_prefix) == (1.0, 3.0, "7")
    assert type(taken.score_threshold) is float


@pytest.fixture
def node():
    """Makes a node started with some arguments."""
    rclpy = pytest.importorskip("rclpy")
    made = []

    def start(*arguments):
        context = rclpy.Context()
        rclpy.init(context=context, args=["--ros-args", *arguments])
        made.append((rclpy.create_node("typed", context=context), context))
        return made[-1][0]

    yield start
    for node, context in made:
        node.destroy_node()
        context.shutdown()


def declare(node, name, default):
    from rcl_interfaces.msg import ParameterDescriptor

    return typed_parameters.declare(node, name, default, ParameterDescriptor(description="A thing."))


def test_command_line_and_yaml(node, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("/**:\n  ros__parameters:\n    rate: 15\n    group: {size: 2}\n    input: 0\n    other: 1.5\n")
    made = node("--params-file", str(file), "-p", "speed:=3", "-p", "name:=2024")
    values = [declare(made, name, default) for name, default in (("rate", 1.0), ("group.size", 1.0), ("speed", 0.0))]
    assert values == [15.0, 2.0, 3.0] and all(type(value) is float for value in values)
    assert [declare(made, name, "x") for name in ("input", "other", "name", "absent")] == ["0", "1.5", "2024", "x"]
    assert made.get_parameter("rate").value == 15.0 and type(made.get_parameter("rate").value) is float


@pytest.mark.parametrize(("given", "default"), [("yes", 1.0), ("[1, 2]", 1.0), ("true", ""), ("1.5", 1), ("two", 1)])
def test_what_cannot_be_meant_is_refused_by_name(node, given, default):
    with pytest.raises(InvalidInputError, match="thing"):
        declare(node("-p", f"thing:={given}"), "thing", default)


def test_names_that_do_not_exist_are_told_with_those_that_are_close(node, tmp_path, capfd):
    file = tmp_path / "parameters.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    filter: {cutof: 2}\n    hands: 1\n    qos_overrides./image.depth: 3\n"
    )
    made = node("--params-file", str(file), "-p", "hand_sid:=left", "-p", "use_sim_time:=false")
    capfd.readouterr()
    typed_parameters.warn_of_unknown(made, ("hand_side", "filter.cutoff", "hands", "rate"))
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert any("no parameter hand_sid," in line and "did you mean hand_side" in line for line in told)
    assert any("no parameter filter.cutof," in line and "did you mean filter.cutoff?" in line for line in told)


def test_while_running(node):
    from rclpy.parameter import Parameter

    made = node()
    declare(made, "rate", 1.0)
    declare(made, "name", "")
    typed_parameters.convert_what_is_set(made, {"rate": 1.0, "name": ""})
    results = made.set_parameters([Parameter("rate", value=2), Parameter("name", value=3)])
    assert all(result.successful for result in results)
    assert (made.get_parameter("rate").value, made.get_parameter("name").value) == (2.0, "3")
    assert not made.set_parameters([Parameter("rate", value="fast")])[0].successful
