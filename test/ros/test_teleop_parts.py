"""What hand_teleop is put together from: parameters, launch plan, the tree of frames."""

from __future__ import annotations

import os
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation
from test_parameters import flat

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.launching import ARGUMENTS, TELEOP_ARGUMENTS, plan_teleop
from hand_pose_3d.ros.parameters import from_mapping, to_mapping
from hand_pose_3d.ros.teleop_parameters import TeleopParameters
from hand_pose_3d.ros.tf_tree import FrameTree, pose
from hand_pose_3d.teleoperation import Target

ROOT = Path(__file__).resolve().parents[2]


def test_yaml_holds_every_parameter_with_its_default_and_a_comment():
    text = (ROOT / "config" / "hand_teleop.yaml").read_text(encoding="utf-8")
    assert flat(yaml.safe_load(text)["/**"]["ros__parameters"]) == to_mapping(TeleopParameters())
    lines = text.splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if ":" in line and not line.lstrip().startswith("#") and not line.endswith(":"):
            assert before.lstrip().startswith("#"), line


def planned(**given):
    values = {name: default for name, (default, _) in TELEOP_ARGUMENTS.items()}
    assert set(given) <= set(values)
    return plan_teleop({**values, **given}, ROOT, {}, False)


def test_the_launch_file_takes_what_the_trackers_takes_and_more():
    assert set(ARGUMENTS) < set(TELEOP_ARGUMENTS) >= {"robot_hand", "target"}
    assert all(text.endswith(".") for _, text in TELEOP_ARGUMENTS.values())
    launch = (ROOT / "launch" / "teleop.launch.py").read_text(encoding="utf-8")
    assert "description(TELEOP_ARGUMENTS, plan_teleop)" in launch


def test_tracker_and_teleoperation_are_started():
    started = planned(source="clip", namespace="arm", target="/servo/pose", base_frame="world", robot_hand="plain")
    assert [program.executable for program in started.programs] == ["hand_pose_3d_node", "image_source", "hand_teleop"]
    teleop = started.programs[-1]
    assert teleop.namespace == "arm" and teleop.needed
    assert teleop.parameters == (
        str(ROOT / "config" / "hand_teleop.yaml"),
        {"base_frame": "world", "robot_hand": "plain"},
    )
    assert dict(teleop.remappings) == {"~/target_pose": "/servo/pose", "joy": "joy"}
    assert os.access(ROOT / "hand_pose_3d" / "ros" / "bin" / "hand_teleop", os.X_OK)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"camera_from": "guess"}, "camera_from must be one of tf, stated"),
        ({"hand_side": "both"}, "hand_side must be one of left, right"),
        ({"teleop_params_file": "/no.yaml"}, "teleop_params_file '/no.yaml' is not a file"),
        ({"source": "radio"}, "source must be one of"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(given, says):
    with pytest.raises(InvalidInputError, match=says):
        planned(**given)


def test_parameters_by_their_ros_names():
    made = from_mapping(TeleopParameters, {"workspace.x_min": 0, "limits.speed": 1})
    assert (made.x_min_m, made.max_speed_m_s) == (0.0, 1.0)
    with pytest.raises(InvalidInputError, match="no parameter 'speed'"):
        from_mapping(TeleopParameters, {"speed": 1})


def transform(parent, child, xyz, turn=(0.0, 0.0, 0.0), w=None):
    x, y, z, scalar = Rotation.from_rotvec(turn).as_quat()
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=xyz[0], y=xyz[1], z=xyz[2]),
            rotation=SimpleNamespace(x=x, y=y, z=z, w=scalar if w is None else w),
        ),
    )


def test_frames_are_found_up_and_down_the_tree_with_their_age():
    tree = FrameTree()
    assert tree.add([transform("base", "mast", (0, 0, 1), (0, 0, np.pi / 2))], 1.0, static=True) == ""
    tree.add([transform("mast", "/camera", (0.5, 0, 0))], 2.0, static=True)
    tree.add([transform("base", "tool", (1, 0, 0))], 3.0, static=False)
    found = tree.find("base", "camera")
    assert np.allclose(found.translation_m, [0, 0.5, 1]) and found.received_s == float("inf")
    found = tree.find("tool", "camera")
    assert np.allclose(found.translation_m, [-1, 0.5, 1]) and found.received_s == 3.0
    back = tree.find("camera", "tool") @ found
    assert np.allclose(back.rotation, np.eye(3)) and np.allclose(back.translation_m, 0)
    assert np.allclose(tree.find("base", "base").translation_m, 0)


def test_frames_that_are_not_joined_or_wrong_are_said():
    tree = FrameTree()
    with pytest.raises(InvalidInputError, match="does not connect 'camera' to 'base'"):
        tree.find("base", "camera")
    assert "is not a pose" in tree.add([transform("base", "camera", (np.nan, 0, 0))], 0.0, static=True)
    assert "is not a pose" in tree.add([transform("base", "camera", (0, 0, 0), w=0.0)], 0.0, static=True)
    tree.add([transform("a", "b", (0, 0, 0)), transform("b", "a", (0, 0, 0))], 0.0, static=True)
    with pytest.raises(InvalidInputError, match="loop"):
        tree.find("base", "a")
    with pytest.raises(InvalidInputError, match="not a pose"):
        pose((0, 0, 0), (0, 0, 0, 2))


class RecordingNode:
    """A node whose publishers keep what they are given."""

    def __init__(self):
        self.sent = {}

    def create_publisher(self, kind, topic, quality):
        self.sent[topic] = []
        return SimpleNamespace(publish=self.sent[topic].append, get_subscription_count=lambda: 1, msg_type=kind)


def a_target(opening_m):
    return Target(np.array([0.4, 0.0, 0.3]), np.eye(3), np.zeros(3), np.zeros(3), opening_m, True)


def outputs_with_control_msgs(monkeypatch, there):
    """What teleoperation publishes, with or without control_msgs, whose GripperCommand has these two fields."""
    pytest.importorskip("rclpy")
    pytest.importorskip("trajectory_msgs")
    from hand_pose_3d.ros.teleop_outputs import TeleopOutputs

    messages = ModuleType("control_msgs.msg")
    if there:
        messages.GripperCommand = make_dataclass("GripperCommand", [("position", float), ("max_effort", float)])
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.msg", messages)
    node = RecordingNode()
    parameters = from_mapping(TeleopParameters, {"gripper.max_effort": 12.0, "gripper.joint": "finger"})
    return node.sent, TeleopOutputs(node, parameters)


def test_the_gripper_is_commanded_in_every_form_where_control_msgs_is_installed(monkeypatch):
    from builtin_interfaces.msg import Time

    sent, outputs = outputs_with_control_msgs(monkeypatch, there=True)
    outputs.target(a_target(None), Time())
    assert not sent["~/gripper/command"] and not sent["~/gripper/opening"] and len(sent["~/target_pose"]) == 1
    outputs.target(a_target(0.03), Time())
    (command,), (opening,), (trajectory,) = (sent[f"~/gripper/{n}"] for n in ("command", "opening", "trajectory"))
    assert (command.position, command.max_effort, opening.data) == (0.03, 12.0, 0.03)
    assert trajectory.joint_names == ["finger"] and list(trajectory.points[0].positions) == [0.03]


def test_without_control_msgs_the_other_forms_remain(monkeypatch):
    from builtin_interfaces.msg import Time

    sent, outputs = outputs_with_control_msgs(monkeypatch, there=False)
    outputs.target(a_target(0.03), Time())
    assert "~/gripper/command" not in sent and sent["~/gripper/opening"][0].data == 0.03


def test_orientations_go_on_without_a_change_of_sign(monkeypatch):
    """A gripper that points down has w near 0, where w >= 0 would flip the numbers again and again."""
    from builtin_interfaces.msg import Time

    sent, outputs = outputs_with_control_msgs(monkeypatch, there=False)
    down, numbers = Rotation.from_rotvec([np.pi, 0, 0]), []
    for k in range(200):
        turn = Rotation.from_rotvec([0.03 * np.sin(0.3 * k), 0, 0.4 * np.sin(0.1 * k)])
        outputs.target(replace(a_target(None), rotation=(turn * down).as_matrix()), Time())
        q = sent["~/target_pose"][-1].pose.orientation
        numbers.append([q.x, q.y, q.z, q.w])
        assert np.allclose(Rotation.from_quat(numbers[-1]).as_matrix(), (turn * down).as_matrix())
    assert np.ptp(np.sign(np.array(numbers)[:, 3])) == 2
    assert np.abs(np.diff(numbers, axis=0)).max() < 0.05


def test_joints_of_a_robot_hand_keep_their_speed_whatever_the_images_rate(monkeypatch):
    from builtin_interfaces.msg import Time

    sent, outputs = outputs_with_control_msgs(monkeypatch, there=False)
    states, trajectories, angle = [], [], 0.0
    outputs._joints = SimpleNamespace(publish=states.append)
    outputs._trajectory = SimpleNamespace(publish=trajectories.append)
    outputs._robot_hand = lambda keypoints: {"finger": angle, "broken": np.nan}
    hand, before = SimpleNamespace(keypoints_canonical=None), 0.0
    for now_s in (0.0, 0.033, 0.1, 0.133, 0.22, 0.24, 0.4):
        outputs.robot_hand(hand, now_s, Time())
        (point,) = trajectories[-1].points
        assert list(states[-1].name) == ["finger"]
        seconds = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
        assert seconds >= 0.05 and abs(point.positions[0] - before) <= 3.0 * seconds + 1e-9
        before, angle = point.positions[0], 2.0
    assert before > 0.5
