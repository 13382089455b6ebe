"""Simulated robots: an arm that picks something up, a hand whose fingers follow a person's."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_hand import keypoints_of

from hand_pose_3d import simulation
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.skeleton import Side

DT = 0.01


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(simulation, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match="pip install 'hand_pose_3d\\[teleop-demo\\]'"):
        simulation.SimulatedArm()


@pytest.fixture
def robots():
    for name in ("mujoco", "mink", "gymnasium_robotics"):
        pytest.importorskip(name)


def move(arm, to, opening, seconds):
    """Go to a place in a straight line, the gripper pointing down; returns the largest distance from the target."""
    start, rotation = arm.pose[0], np.diag([1.0, -1.0, -1.0])
    steps, worst = round(seconds / DT), 0.0
    for k in range(steps):
        share = (k + 1) / steps
        target = start + (np.asarray(to) - start) * share * share * (3 - 2 * share)
        arm.advance(DT, (target, rotation), opening)
        worst = max(worst, float(np.linalg.norm(arm.pose[0] - target)))
    return worst


def test_the_arm_follows_and_picks_the_cube_up(robots):
    arm = simulation.SimulatedArm(cube_m=(0.5, 0.1))
    assert arm.pose[1] == pytest.approx(np.diag([1.0, -1.0, -1.0]), abs=1e-3)
    assert move(arm, (0.5, 0.1, 0.2), simulation.OPENING_M, 1.5) < 0.01
    assert move(arm, (0.5, 0.1, 0.03), simulation.OPENING_M, 1.5) < 0.01
    for _ in range(80):
        arm.advance(DT, None, 0.0)
    move(arm, (0.5, -0.1, 0.25), None, 2.0)
    assert arm.cube_m[2] > 0.2 and arm.cube_m[1] == pytest.approx(-0.1, abs=0.02)
    held = arm.pose[0]
    arm.advance(0.5, None, None)  # no command: it holds
    assert arm.pose[0] == pytest.approx(held, abs=0.005)


def test_time_is_simulated_as_it_passes(robots):
    hand = simulation.SimulatedHand()
    for _ in range(7):
        hand.advance(0.0111, {})
    assert hand.data.time == pytest.approx(7 * 0.0111, abs=simulation.STEP_S)


def test_the_robot_hand_bends_the_finger_that_a_person_bends(robots, tmp_path):
    pytest.importorskip("dex_retargeting")
    yaml = pytest.importorskip("yaml")
    from hand_pose_3d.retargeting import HandRetargeter

    hand = simulation.SimulatedHand()
    (tmp_path / "hand.urdf").write_text(hand.urdf(), encoding="utf-8")
    (tmp_path / "hand.yml").write_text(yaml.safe_dump(hand.retargeting(str(tmp_path / "hand.urdf"))), encoding="utf-8")
    retargeter = HandRetargeter(Side.RIGHT, tmp_path / "hand.yml")

    def bent(**angles):
        canonical, _ = to_canonical(normalise(keypoints_of(angles))[0])
        for _ in range(3):
            found = retargeter(canonical)
        for _ in range(100):
            hand.advance(DT, found)
        return hand.data.joint("robot0:FFJ2").qpos[0], hand.data.joint("robot0:MFJ2").qpos[0]

    index, middle = bent(index_mcp_flexion=1.2, index_pip_flexion=1.2, index_dip_flexion=0.6)
    assert index > 0.8 > 0.4 > middle
    index, middle = bent(middle_mcp_flexion=1.2, middle_pip_flexion=1.2, middle_dip_flexion=0.6)
    assert middle > 0.8 > 0.4 > index


def test_pictures_show_the_state(robots):
    arm = simulation.SimulatedArm()
    try:
        view = simulation.View(arm, (64, 48), (0.36, 0.0, 0.24), 1.35, (155, -24))
    except (RuntimeError, AttributeError, ImportError) as error:  # no EGL, no display
        pytest.skip(f"MuJoCo cannot render here: {error}")
    before = arm.data.qpos.copy()
    first = view.picture(before)
    move(arm, (0.5, -0.25, 0.3), None, 1.0)
    assert first.shape == (48, 64, 3) and first.dtype == np.uint8
    assert (view.picture(arm.data.qpos) != first).any() and (view.picture(before) == first).all()
    view.close()
