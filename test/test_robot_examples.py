"""The examples' logic; neither a ROS installation nor a robot is needed."""

import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.joints import JOINT_NAMES
from hand_pose_3d.retargeting import HandRetargeter, in_robot_frame, plain_hand_config, plain_hand_urdf
from hand_pose_3d.ros.examples.follow import Follower, choose
from hand_pose_3d.ros.examples.pinch_gripper import PinchConfig, PinchGripper
from hand_pose_3d.skeleton import Side

SEEN = np.ones(21)


def pinch(distance: float) -> np.ndarray:
    """Keypoints whose fingertips are so many reference bones apart."""
    keypoints = np.zeros((21, 3))
    keypoints[8, 0] = distance
    return keypoints


def test_a_pinch_closes_and_a_spread_opens_at_the_stated_speed():
    gripper = PinchGripper(PinchConfig(closed=0.5, opened=2.5, max_opening_m=0.08, speed_m_s=0.3))
    openings = [gripper(pinch(0.4), SEEN, frame / 30) for frame in range(20)]
    assert openings[0] == 0.08 and openings[-1] == 0
    assert np.diff(openings).min() == pytest.approx(-0.01)
    for frame in range(20, 40):
        opening = gripper(pinch(1.5), SEEN, frame / 30)
    assert opening == pytest.approx(0.04)


def test_hidden_fingertips_and_a_hand_that_comes_back_move_nothing_at_once():
    gripper = PinchGripper()
    gripper(pinch(3.0), SEEN, 0.0)
    hidden = SEEN.copy()
    hidden[8] = 0.1
    assert gripper(pinch(0.0), hidden, 1.0) == 0.08
    assert gripper(pinch(0.0) * np.nan, SEEN, 2.0) == 0.08
    back = gripper(pinch(0.0), SEEN, 100.0)
    assert 0.08 - 0.1 * PinchConfig.speed_m_s - 1e-9 <= back < 0.08
    assert gripper(pinch(3.0), SEEN, 50.0) == back  # Time that goes back moves nothing.


def test_the_hand_that_was_obeyed_stays_in_charge():
    hands = [
        SimpleNamespace(side=2, track_id=5),
        SimpleNamespace(side=1, track_id=3),
        SimpleNamespace(side=2, track_id=4),
    ]
    assert choose(hands, 2, None).track_id == 5
    assert choose(hands, 2, 4).track_id == 4
    assert choose(hands, 1, 4).track_id == 3
    assert choose(hands, 0, 99).track_id == 5
    assert choose(hands[:1], 1, None) is None and choose([], 0, None) is None
    followed = Follower(0)
    assert followed(hands, 1.0).track_id == 5
    others = [hand for hand in hands if hand.track_id != 5]
    assert followed(others, 1.1) is None and followed(hands, 1.2).track_id == 5  # after one image without it
    assert followed(others, 1.8).track_id == others[0].track_id


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_the_plain_hand_has_our_joints_and_one_tree_of_links(side):
    robot = ElementTree.fromstring(plain_hand_urdf(side))
    revolute = {joint.get("name") for joint in robot.iter("joint") if joint.get("type") == "revolute"}
    assert revolute == set(JOINT_NAMES)
    links = {link.get("name") for link in robot.iter("link")}
    assert {joint.find("child").get("link") for joint in robot.iter("joint")} == links - {"palm"}


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_robot_frame_has_x_out_of_the_palm_and_z_to_the_fingers(side):
    points = keypoints_of({"index_mcp_flexion": 0.8}, side)
    robot = in_robot_frame(hand_from(points, points[:, :2], side).keypoints_canonical, side)
    assert robot[12, 2] > 0.15 and abs(robot[12, 0]) < 0.01
    assert robot[8, 0] > 0.03
    assert np.sign(robot[5, 1]) == (1 if side == Side.RIGHT else -1)


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_the_robot_takes_the_pose_of_the_hand(side):
    pytest.importorskip("pinocchio")
    pytest.importorskip("dex_retargeting")
    retargeter = HandRetargeter(side)
    angles = {f"{finger}_{joint}": 0.7 for finger in ("index", "ring") for joint in ("mcp_flexion", "pip_flexion")}
    points = keypoints_of({**angles, "thumb_cmc_flexion": -0.6, "thumb_cmc_abduction": 0.4}, side)
    for _ in range(5):
        joints = retargeter(hand_from(points, points[:, :2], side).keypoints_canonical)
    assert set(joints) == set(JOINT_NAMES)
    for finger in ("index", "ring"):
        assert joints[f"{finger}_mcp_flexion"] + joints[f"{finger}_pip_flexion"] == pytest.approx(1.4, abs=0.35)
    assert abs(joints["middle_mcp_flexion"]) < 0.3
    assert joints["thumb_cmc_flexion"] == pytest.approx(-0.6, abs=0.3)
    assert joints["thumb_cmc_abduction"] == pytest.approx(0.4, abs=0.3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "a: [",
        "retargeting: 3",
        "retargeting: {type: 5}",
        "retargeting: {type: vector, spam: 1}",
        "keypoints",
    ],
)
def test_a_broken_configuration_is_refused_in_a_sentence(text, tmp_path):
    pytest.importorskip("pinocchio")
    pytest.importorskip("dex_retargeting")
    (tmp_path / "hand.urdf").write_text(plain_hand_urdf(Side.RIGHT))
    if text == "keypoints":
        config = plain_hand_config(str(tmp_path / "hand.urdf"))
        config["target_link_human_indices"] = [[0] * 10, [99] * 10]
        text = yaml.safe_dump({"retargeting": config})
    (tmp_path / "hand.yml").write_text(text)
    with pytest.raises(InvalidInputError, match="not a usable configuration of dex-retargeting") as caught:
        HandRetargeter(Side.RIGHT, tmp_path / "hand.yml")
    assert len(str(caught.value).splitlines()) == 1
