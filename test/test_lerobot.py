"""The teleoperator for LeRobot: with LeRobot where it is installed, else with what stands in for its base classes."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lerobot_stand_in
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of

import hand_pose_3d
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.skeleton import INDEX_TIP, THUMB_TIP, Side
from hand_pose_3d.teleoperation_config import TeleoperationConfig

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "config" / "lerobot_teleoperator_hand_pose_3d"
CLIP = ROOT / "hand_pose_3d" / "data" / "teleop_clip.mp4"
KEYS = ["enabled", "target_x", "target_y", "target_z", "target_wx", "target_wy", "target_wz", "gripper_vel"]
CAMERA = {"camera_matrix": [560.0, 0.0, 319.5, 0.0, 560.0, 239.5, 0.0, 0.0, 1.0], "width": 640, "height": 480}


@pytest.fixture(scope="module")
def plugin():
    """hand_pose_3d.lerobot.teleoperator."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("lerobot") is None:
            for name, module in lerobot_stand_in.modules().items():
                patch.setitem(sys.modules, name, module)
        from hand_pose_3d.lerobot import teleoperator

        yield teleoperator
    if find_spec("lerobot") is None:
        for name in [name for name in sys.modules if name.startswith("hand_pose_3d.lerobot")]:
            del sys.modules[name]


@pytest.fixture
def settings(tmp_path):
    calibration = tmp_path / "camera.yaml"
    lines = {"image_width": CAMERA["width"], "image_height": CAMERA["height"], "camera_matrix": CAMERA["camera_matrix"]}
    calibration.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return {"camera_calibration": calibration, "calibration_dir": tmp_path, "camera": str(CLIP)}


def hand(side=Side.RIGHT, move=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), pinch_m=0.06):
    """A placed hand, moved and turned in the camera's frame."""
    points = keypoints_of({}, side)
    points[THUMB_TIP] = points[INDEX_TIP] + [0.0, 0.0, -pinch_m]
    points = points @ Rotation.from_rotvec(turn).as_matrix().T + [0.1 * side, 0.0, 0.6] + np.array(move)
    return hand_from(points, 500 * points[:, :2], side).replace(
        keypoints_m=points, scale_source=ScaleSource.CALIBRATED, position_stddev_m=0.02, track_id=int(side)
    )


class Bench:
    """A connected teleoperator whose images and clock the test gives: images at 30 Hz, actions at 60 Hz."""

    def __init__(self, plugin, patch, **settings):
        self.now_s, self.closed, self.seen, self.actions = 100.0, 0, None, []
        patch.setattr(plugin, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        patch.setattr(plugin, "open_source", lambda *_: None)
        patch.setattr(plugin, "HandPoseEstimator", lambda **_: SimpleNamespace(warm_up=lambda: None))
        patch.setattr(plugin, "HandReader", lambda *_: self)
        self.teleoperator = plugin.HandPose3DTeleoperator(plugin.HandPose3DTeleoperatorConfig(**settings))
        self.teleoperator.connect()

    def take(self):
        seen, self.seen = self.seen, None
        return seen

    def close(self):
        self.closed += 1

    def image(self, *hands):
        """The actions after an image with these hands; the last one."""
        self.seen = SimpleNamespace(hands=list(hands), stamp_s=self.now_s - 0.03, found_s=self.now_s)
        for _ in range(2):
            self.now_s += 1 / 60
            action = self.teleoperator.get_action()
            assert list(action) == KEYS and all(type(v) is float and math.isfinite(v) for v in action.values())
            assert action["enabled"] in (0.0, 1.0) and abs(action["gripper_vel"]) <= 1
            held = {**action, "gripper_vel": 0.0 if abs(action["gripper_vel"]) == 1 else action["gripper_vel"]}
            assert action["enabled"] or not any(held.values())  # what a gripper holds all the way, it goes on to hold
            self.actions.append(action)
        return action

    def images(self, count, *hands):
        return [self.image(*hands) for _ in range(count)][-1]

    def engaged(self, **how):
        """The clutch hand opens and pinches until the clutch is closed."""
        self.images(5, hand(**how), hand(Side.LEFT))
        assert self.images(6, hand(**how), hand(Side.LEFT, pinch_m=0.01))["enabled"]
        return self


@pytest.fixture
def bench(plugin, monkeypatch, settings):
    return Bench(plugin, monkeypatch, **settings)


CLUTCH = hand(Side.LEFT, pinch_m=0.01)


def test_action_features_are_the_actions_keys(bench):
    assert bench.teleoperator.action_features == dict.fromkeys(KEYS, float)
    assert list(bench.teleoperator.get_action()) == KEYS
    assert bench.teleoperator.feedback_features == {} and bench.teleoperator.is_calibrated
    with pytest.raises(NotImplementedError):
        bench.teleoperator.send_feedback({})


def test_off_until_the_other_hand_pinches_and_off_when_it_lets_go(bench):
    for k in range(10):
        assert not any(bench.image(hand(move=(0.01 * k, 0, 0)), hand(Side.LEFT)).values())
    bench.engaged()
    assert not bench.images(4, hand(), hand(Side.LEFT))["enabled"]


def test_it_stays_enabled_until_the_target_has_braked(bench):
    bench.engaged()
    for k in range(15):
        bench.image(hand(move=(0, 0, -0.01 * k)), CLUTCH)
    for k in range(15, 18):
        bench.image(hand(move=(0, 0, -0.01 * k)), hand(Side.LEFT))
    ahead = [action["target_x"] for action in bench.actions if action["enabled"]]
    assert 0 < ahead[-1] - ahead[-2] < 0.8 * (ahead[-2] - ahead[-3])
    assert not bench.actions[-1]["enabled"]


def test_a_pinch_that_was_held_from_the_start_closes_nothing(bench):
    assert not bench.images(20, hand(), CLUTCH)["enabled"]


def test_the_target_moves_as_the_hand_in_the_base_frame(bench):
    """The camera looks back at the operator: towards it is ahead (x), right in its image is left (y), up is up (z)."""
    bench.engaged()
    for k in range(60):
        action = bench.image(hand(move=min(k / 30, 1) * np.array([0.03, -0.04, -0.05])), CLUTCH)
    moved = [action[f"target_{axis}"] for axis in "xyz"]
    assert moved == pytest.approx([0.05, 0.03, 0.04], abs=2e-3) and action["enabled"]
    assert [action[f"target_w{axis}"] for axis in "xyz"] == pytest.approx([0, 0, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("effector_rpy", "about"),
    [
        ((0.0, 0.0, 0.0), (0, 0, 0.3)),
        ((math.pi, 0.0, 0.0), (0, 0, -0.3)),
        ((math.pi / 2, 0.0, 0.0), (0, 0.3, 0)),
    ],
)
def test_the_target_turns_about_the_effectors_axes(plugin, monkeypatch, settings, effector_rpy, about):
    """About the vertical; a gripper that points down has its z axis the other way round."""
    bench = Bench(plugin, monkeypatch, **settings, effector_rpy_rad=effector_rpy).engaged()
    for k in range(60):
        action = bench.image(hand(turn=(0, -0.3 * min(k / 30, 1), 0)), CLUTCH)
    assert [action[f"target_w{axis}"] for axis in "xyz"] == pytest.approx(about, abs=1e-2)


def test_a_later_turn_is_about_the_axes_that_the_effector_has_then(bench):
    """LeRobot turns the effector about its own axes as they are when the clutch closes."""
    first, wanted = Rotation.from_rotvec((0, -1.0, 0)), (-0.3, 0.0, 0.0)  # a left turn of 1 rad, then one about -x

    def turned(share, then=0.0):
        both = Rotation.from_rotvec((0, 0, 0.3 * then)) * Rotation.from_rotvec(share * first.as_rotvec())
        return {"turn": both.as_rotvec()}

    bench.engaged()
    for k in range(90):
        bench.image(hand(**turned(min(k / 60, 1))), CLUTCH)
    assert not bench.images(10, hand(**turned(1)), hand(Side.LEFT))["enabled"]
    bench.engaged(**turned(1))
    for k in range(60):
        action = bench.image(hand(**turned(1, min(k / 30, 1))), CLUTCH)
    about = Rotation.from_rotvec((0, 0, -1.0)).apply(wanted)
    assert [action[f"target_w{axis}"] for axis in "xyz"] == pytest.approx(about, abs=2e-2)


def test_scale_and_size_of_the_box_are_those_of_teleoperation(plugin, monkeypatch, settings):
    teleoperation = TeleoperationConfig(position_scale=0.5, z_min_m=0.0, z_max_m=0.02)
    bench = Bench(plugin, monkeypatch, **settings, teleoperation=teleoperation).engaged()
    for k in range(60):
        action = bench.image(hand(move=min(k / 30, 1) * np.array([0.0, -0.1, -0.1])), CLUTCH)
    assert (action["target_x"], action["target_z"]) == pytest.approx((0.05, 0.01), abs=1e-3)


def test_a_lost_hand_stops_it_until_the_clutch_closes_anew(bench):
    bench.engaged()
    for k in range(10):
        bench.image(hand(move=(0, 0, -0.01 * k)), CLUTCH)
    last = bench.images(4, CLUTCH)
    assert not last["enabled"]
    braking = [action["target_x"] for action in bench.actions[-8:] if action["enabled"]]
    assert len(braking) <= 6 and braking == sorted(braking)
    assert not bench.images(10, hand(), CLUTCH)["enabled"]
    start = len(bench.actions)
    bench.engaged()
    first = next(action for action in bench.actions[start:] if action["enabled"])
    assert [first[f"target_{axis}"] for axis in "xyz"] == pytest.approx([0, 0, 0], abs=1e-6)


def test_it_stops_when_images_stop(bench):
    bench.engaged()
    bench.now_s += 0.2
    assert bench.teleoperator.get_action()["enabled"] == 0


def test_numbers_that_are_not_finite_stop_it(bench):
    bench.engaged()
    bad = hand()
    assert not bench.images(3, bad.replace(keypoints_m=bad.keypoints_m * np.nan), CLUTCH)["enabled"]


def test_the_gripper_goes_by_steps_between_its_ends(bench):
    """As GripperVelocityToJoint adds them: position += 20 * gripper_vel, per cent."""
    bench.engaged()
    share = (0.06 - 0.025) / (0.1 - 0.025)
    start = len(bench.actions)
    for k in range(30):
        bench.image(hand(pinch_m=0.06 + 0.02 * min(k / 20, 1)), CLUTCH)
    opened = sum(20 * action["gripper_vel"] for action in bench.actions[start:])
    assert opened == pytest.approx(100 * ((0.08 - 0.025) / (0.1 - 0.025) - share), abs=1)
    assert bench.images(30, hand(pinch_m=0.01), CLUTCH)["gripper_vel"] == -1
    assert bench.images(30, hand(pinch_m=0.12), CLUTCH)["gripper_vel"] == 1


def test_a_gripper_that_holds_goes_on_to_hold_while_the_clutch_is_open(bench):
    bench.engaged()
    assert bench.images(30, hand(pinch_m=0.01), CLUTCH)["gripper_vel"] == -1
    action = bench.images(10, hand(pinch_m=0.06), hand(Side.LEFT))
    assert action["enabled"] == 0 and action["gripper_vel"] == -1


def test_no_motion_of_a_fast_gripper_is_lost(plugin, monkeypatch, settings):
    fast = TeleoperationConfig(gripper_speed_m_s=1.0)
    bench = Bench(plugin, monkeypatch, **settings, teleoperation=fast).engaged(pinch_m=0.01)
    bench.images(10, hand(pinch_m=0.01), CLUTCH)
    start = len(bench.actions)
    bench.images(10, hand(pinch_m=0.025 + 0.7 * 0.075), CLUTCH)
    assert sum(20 * action["gripper_vel"] for action in bench.actions[start:]) == pytest.approx(70, abs=1)


@pytest.mark.parametrize(
    "wrong", [{"camera_rpy_rad": (math.nan, 0, 0)}, {"effector_rpy_rad": (0, math.inf, 0)}, {"width": 0}]
)
def test_settings_that_cannot_be_are_refused(plugin, settings, wrong):
    with pytest.raises(InvalidInputError):
        plugin.HandPose3DTeleoperator(plugin.HandPose3DTeleoperatorConfig(**settings, **wrong))


def test_disconnected_it_gives_no_action_and_can_be_connected_again(bench):
    with pytest.raises(ConnectionError):
        bench.teleoperator.connect()
    bench.engaged().teleoperator.disconnect()
    assert bench.closed == 1 and not bench.teleoperator.is_connected
    for call in (bench.teleoperator.get_action, bench.teleoperator.disconnect):
        with pytest.raises(ConnectionError):
            call()
    bench.teleoperator.connect()
    assert not any(bench.teleoperator.get_action().values())


def test_with_networks_and_a_video_until_disconnect(plugin, settings):
    teleoperator = plugin.HandPose3DTeleoperator(plugin.HandPose3DTeleoperatorConfig(**settings))
    end_s = time.monotonic() + 60
    with teleoperator:
        while "no hands have arrived" in teleoperator._core.why_not_good and time.monotonic() < end_s:
            assert teleoperator.get_action()["enabled"] == 0
            time.sleep(1 / 60)
        assert "no hands have arrived" not in teleoperator._core.why_not_good
    assert not teleoperator.is_connected
    assert "hand_pose_3d" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidInputError("camera 0 is lost"), "^camera 0 is lost"),
        (RuntimeError("out of luck"), "RuntimeError: out of luck"),
        (None, "has ended"),
    ],
)
def test_a_camera_that_is_lost_or_ends_is_told(plugin, error, told):
    from hand_pose_3d.lerobot.hand_reader import HandReader

    class Lost:
        time_s, closed = None, False

        def __iter__(self):
            if error:
                raise error
            return iter(())

        def close(self):
            self.closed = True

    lost: Any = Lost()
    reader = HandReader(lost, None, None)
    reader.close()
    assert lost.closed
    with pytest.raises(HandPoseError, match=told):
        reader.take()


@pytest.mark.parametrize(
    ("changes", "error"), [({"camera": "missing.mp4"}, "missing.mp4"), ({"camera_calibration": "no.yaml"}, "no.yaml")]
)
def test_connect_says_what_is_missing(plugin, settings, monkeypatch, changes, error):
    monkeypatch.setattr(plugin, "HandPoseEstimator", lambda **_: SimpleNamespace(warm_up=lambda: None))
    teleoperator = plugin.HandPose3DTeleoperator(plugin.HandPose3DTeleoperatorConfig(**{**settings, **changes}))
    with pytest.raises(InvalidInputError, match=error):
        teleoperator.connect()
    assert not teleoperator.is_connected


def test_the_plug_ins_distribution_is_named_as_lerobot_looks_for_it():
    """register_third_party_plugins imports every distribution whose name begins so, by that name."""
    text = (PLUGIN / "pyproject.toml").read_text()
    name = re.search(r'^name = "(lerobot_teleoperator_\w+)"$', text, re.MULTILINE)[1]
    assert (PLUGIN / f"{name}.py").is_file() and f'py-modules = ["{name}"]' in text
    assert f'version = "{hand_pose_3d.__version__}"' in text
    assert 'dependencies = ["hand_pose_3d[lerobot]"]' in text


def test_lerobot_finds_and_makes_it(plugin, settings):
    pytest.importorskip("lerobot.processor")
    from lerobot.teleoperators import make_teleoperator_from_config

    config = plugin.HandPose3DTeleoperatorConfig(**settings)
    assert config.type == "hand_pose_3d"
    assert type(make_teleoperator_from_config(config)) is plugin.HandPose3DTeleoperator


def test_lerobots_processor_steps_take_its_actions(bench):
    pytest.importorskip("lerobot.processor")
    from lerobot.processor import RobotProcessorPipeline
    from lerobot.processor.converters import robot_action_observation_to_transition, transition_to_robot_action
    from lerobot.robots.so_follower.robot_kinematic_processor import (
        EEBoundsAndSafety,
        EEReferenceAndDelta,
        GripperVelocityToJoint,
    )

    pose = np.eye(4)
    pose[:3, 3] = [0.2, 0.0, 0.1]
    steps = [
        EEReferenceAndDelta(SimpleNamespace(forward_kinematics=lambda q: pose), dict.fromkeys("xyz", 1.0), ["joint"]),
        EEBoundsAndSafety({"min": [-1.0] * 3, "max": [1.0] * 3}, max_ee_step_m=0.05),
        GripperVelocityToJoint(),
    ]
    pipeline = RobotProcessorPipeline(
        steps=steps, to_transition=robot_action_observation_to_transition, to_output=transition_to_robot_action
    )
    bench.engaged()
    for k in range(40):
        bench.image(hand(move=min(k / 30, 1) * np.array([0.0, 0.0, -0.05])), CLUTCH)
    bench.images(5, CLUTCH)
    ends = [pipeline((dict(action), {"joint.pos": 0.0, "gripper.pos": 50.0})) for action in bench.actions]
    assert [ends[0][f"ee.{axis}"] for axis in "xyz"] == pytest.approx([0.2, 0, 0.1])
    assert [ends[-1][f"ee.{axis}"] for axis in "xyz"] == pytest.approx([0.25, 0, 0.1], abs=2e-3)
    assert ends[-1]["ee.gripper_pos"] == 50
