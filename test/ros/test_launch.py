"""The launch file: its arguments, what it starts, and, where `launch` is installed, that it builds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "hand.launch.py"
CONTRACT = {"image", "camera_info", "depth", "params_file", "rviz", "namespace", "source", "device"}


def literal(name: str):
    for node in ast.parse(FILE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(name)


def test_every_argument_is_there_and_described():
    arguments = literal("ARGUMENTS")
    assert set(arguments) >= CONTRACT
    assert all(text.endswith(".") for _, text in arguments.values())
    assert literal("_CHOICES")["source"] == ["topic", "camera", "video", "clip"]


def test_programs_that_are_started_are_installed():
    calls = [n for n in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    started = {
        keyword.value.value
        for call in calls
        if getattr(call.func, "id", "") == "Node"
        for keyword in call.keywords
        if keyword.arg == "executable"
    }
    assert started - {"rviz2"} == {"hand_pose_3d_node", "image_source"}
    assert all((ROOT / "hand_pose_3d" / "ros" / "bin" / name).is_file() for name in started - {"rviz2"})


def test_rviz_shows_image_skeleton_and_frames():
    config = yaml.safe_load((ROOT / "config" / "hand_pose_3d.rviz").read_text(encoding="utf-8"))
    displays = {d["Class"].rpartition("/")[2]: d for d in config["Visualization Manager"]["Displays"]}
    assert {"MarkerArray", "TF", "Image", "Grid"} <= set(displays)
    assert all(display["Enabled"] for display in displays.values())
    assert displays["MarkerArray"]["Topic"]["Value"] == "/hand_pose_3d/markers"
    assert displays["Image"]["Topic"]["Value"] == "/hand_pose_3d/overlay"


def start(**arguments: str):
    """Programs that the launch file starts with these arguments: {executable: launch_ros Node}, and the context."""
    pytest.importorskip("launch_ros")
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch_ros.actions import Node

    from launch import LaunchContext

    loader = SourceFileLoader("hand_launch", str(FILE))
    module = module_from_spec(spec_from_loader("hand_launch", loader))
    loader.exec_module(module)
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    nodes = []
    for entity in module.generate_launch_description().entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
        elif isinstance(entity, OpaqueFunction):
            nodes += [made for made in entity.execute(context) or [] if isinstance(made, Node)]
    for node in nodes:
        node._perform_substitutions(context)
    return {node.node_executable: node for node in nodes}


def remaps(node) -> dict[str, str]:
    return dict(node.expanded_remapping_rules)


def test_robot_with_its_own_camera():
    nodes = start(image="/front/image_raw", namespace="arm")
    assert set(nodes) == {"hand_pose_3d_node"}
    node = nodes["hand_pose_3d_node"]
    assert node.node_name == "/arm/hand_pose_3d"
    assert remaps(node)["image"] == "/front/image_raw"
    assert remaps(node)["camera_info"] == "/front/camera_info"


@pytest.mark.parametrize("source", ["camera", "video", "clip"])
def test_own_source_of_images(source):
    nodes = start(source=source, rviz="true")
    assert {"hand_pose_3d_node", "image_source"} <= set(nodes)
    assert remaps(nodes["image_source"])["image"] == remaps(nodes["hand_pose_3d_node"])["image"]


def test_unknown_source_is_refused():
    pytest.importorskip("launch_ros")
    with pytest.raises(Exception, match="source"):
        start(source="radio")
