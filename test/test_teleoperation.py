"""Whatever the hands do, the target keeps its limits, stops in time and goes on only when the clutch is closed anew."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.skeleton import Side
from hand_pose_3d.teleoperation import Observation, Target, Teleoperation, observe
from hand_pose_3d.teleoperation_config import TeleoperationConfig

CONFIG = TeleoperationConfig()
START = np.array([0.45, 0.0, 0.3])
STEP_S, FRAME_S = 1 / CONFIG.rate_hz, 1 / 30


def hand(position=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), **fields) -> Observation:
    values = {
        "side": Side.RIGHT,
        "side_score": 0.95,
        "track_id": 1,
        "score": 0.9,
        "position_m": np.array(position, dtype=float),
        "rotation": Rotation.from_rotvec(turn).as_matrix(),
        "position_stddev_m": 0.03,
        "pinch_m": 0.06,
    }
    return Observation(**{**values, **fields})


class Run:
    """A teleoperation with its clock, fed with frames at 30 Hz and stepped at its rate; every target is checked."""

    def __init__(self, config: TeleoperationConfig = CONFIG) -> None:
        self.config = config
        self.core = Teleoperation(config)
        self.now_s = self.stamp_s = 100.0
        self.last_good_s = -np.inf
        self.allowed = False  # the clutch was closed since the last stop
        self.before: Target | None = None
        self.targets: list = []

    def see(self, *hands, good: bool, age_s: float = 0.05, stamp_s: float | None = None) -> None:
        self.stamp_s = stamp_s if stamp_s is not None else self.stamp_s + FRAME_S
        if good:
            self.last_good_s = self.now_s
        self.core.see(hands, self.stamp_s, age_s, self.now_s)

    def engage(self, start: bool = False) -> str:
        held = self.core.target
        refusal = self.core.engage(self.now_s, START if start else None, np.eye(3) if start else None)
        if not refusal:
            self.allowed = True
            assert not self.core.target.velocity_m_s.any() and not self.core.target.turn_rad_s.any()
            if held is not None and not start:
                assert (self.core.target.position_m == held.position_m).all()
                assert (self.core.target.rotation == held.rotation).all()
            self.before = self.core.target
        return refusal

    def step(self, elapsed: float = STEP_S):
        self.now_s += elapsed
        target = self.core.step(self.now_s)
        if target is not None:
            self.check(target, elapsed)
            self.before = target
            self.targets.append(target)
        return target

    def check(self, target, elapsed: float) -> None:
        c, before = self.config, self.before
        dt = min(max(elapsed, 0.0), 2.5 / c.rate_hz) + 1e-12
        assert np.isfinite(target.position_m).all() and np.isfinite(target.rotation).all()
        assert (target.position_m >= c.box_m[0]).all() and (target.position_m <= c.box_m[1]).all()
        assert np.allclose(target.rotation @ target.rotation.T, np.eye(3), atol=1e-9)
        # The published pose moves by the published velocity, and that keeps its limits.
        moved = np.linalg.norm(target.position_m - before.position_m)
        turned = Rotation.from_matrix(target.rotation @ before.rotation.T).magnitude()
        assert moved <= c.max_speed_m_s * dt + 1e-9 and turned <= c.max_turn_rad_s * dt + 1e-9
        assert np.linalg.norm(target.velocity_m_s) <= c.max_speed_m_s + 1e-9
        assert np.linalg.norm(target.turn_rad_s) <= c.max_turn_rad_s + 1e-9
        change = np.linalg.norm(target.velocity_m_s - before.velocity_m_s)
        turn_change = np.linalg.norm(target.turn_rad_s - before.turn_rad_s)
        assert change <= c.stop_acceleration_m_s2 * max(elapsed, dt) + 1e-9
        faster = np.linalg.norm(target.velocity_m_s) > np.linalg.norm(before.velocity_m_s) + 1e-9
        if faster or (target.engaged and self.now_s - self.last_good_s <= c.slow_after_s):
            assert change <= c.max_acceleration_m_s2 * dt + 1e-9
            assert turn_change <= c.max_turn_acceleration_rad_s2 * dt + 1e-9
        turn_limit = max(c.stop_turn_acceleration_rad_s2, c.max_turn_acceleration_rad_s2)
        assert turn_change <= turn_limit * max(elapsed, dt) + 1e-9
        # It stops in time, and goes on only when somebody closes the clutch.
        if not target.engaged:
            self.allowed = False
        if not self.allowed:
            assert np.linalg.norm(target.velocity_m_s) <= np.linalg.norm(before.velocity_m_s)
        if self.now_s - self.last_good_s > 0.1 and elapsed <= 1.5 * STEP_S:
            assert not target.engaged and not target.velocity_m_s.any() and not target.turn_rad_s.any()
            assert not target.moving
        if target.gripper_opening_m is not None:
            assert 0 <= target.gripper_opening_m <= c.gripper_opening_m
            if before.gripper_opening_m is not None:
                gripped = abs(target.gripper_opening_m - before.gripper_opening_m)
                assert gripped <= c.gripper_speed_m_s * dt + 1e-9

    def frame(self, *hands, good: bool = True, **how) -> None:
        """One image and the steps until the next."""
        self.see(*hands, good=good, **how)
        for _ in range(3):
            self.step()
        self.step(FRAME_S - 3 * STEP_S)

    def engaged(self, *hands) -> Run:
        for _ in range(10):
            self.frame(*(hands or [hand()]))
        self.see(*(hands or [hand()]), good=True)
        assert self.engage(start=True) == ""
        return self


def test_off_at_the_start_and_off_without_a_hand():
    run = Run()
    assert run.step() is None
    assert "no good pose of the right hand" in run.engage(start=True)
    run.frame(hand())
    run.see(hand(), good=True)
    assert run.engage() == "it is not known where the robot is"
    assert run.step() is None
    assert run.engage(start=True) == ""
    assert run.engage(start=True) == "the clutch is closed already"


def test_the_target_goes_where_the_hand_goes_and_turns_as_it_turns():
    run = Run(TeleoperationConfig(position_scale=0.5)).engaged()
    for k in range(60):
        share = min(k / 30, 1)
        run.frame(hand(share * np.array([0.1, -0.06, 0.04]), share * np.array([0, 0, 0.4])))
    assert np.allclose(run.targets[-1].position_m, START + [0.05, -0.03, 0.02], atol=1e-3)
    assert np.allclose(Rotation.from_matrix(run.targets[-1].rotation).as_rotvec(), [0, 0, 0.4], atol=1e-2)
    assert run.core.engaged and run.core.stops == 0


def test_the_lag_is_that_of_the_response():
    run = Run().engaged()
    for k in range(60):
        run.frame(hand([0.0, 0.15 * k * FRAME_S, 0.0]))
    behind = 0.15 * 59 * FRAME_S - (run.targets[-1].position_m - START)[1]
    assert 0 < behind / 0.15 < 0.15


def test_a_still_hand_moves_nothing_and_scale_turn_zero_keeps_the_orientation():
    run = Run(TeleoperationConfig(turn_scale=0.0)).engaged()
    for _ in range(20):
        run.frame(hand())
    assert np.allclose(run.targets[-1].position_m, START)
    for k in range(20):
        run.frame(hand(turn=[0.02 * k, 0, 0]))
    assert np.allclose(run.targets[-1].rotation, np.eye(3))


def test_the_box_holds_the_target_and_lets_it_back_at_once():
    run = Run().engaged()
    for k in range(90):
        run.frame(hand([0.01 * k, 0, 0]))
    assert run.targets[-1].position_m[0] == pytest.approx(CONFIG.x_max_m, abs=1e-4)
    for k in range(120):
        run.frame(hand([0.89 - 0.006 * k, 0, 0]))
    assert run.targets[-1].position_m[0] == pytest.approx(START[0] + 0.89 - 0.006 * 119, abs=0.04)


def test_reengagement_starts_from_where_the_target_stands():
    run = Run().engaged()
    for k in range(20):
        run.frame(hand([0.003 * k, 0, 0]))
    run.core.disengage("let go")
    for _ in range(10):
        run.frame(hand([0.06, 0.0, 0.0]))
    held = run.targets[-1].position_m
    for k in range(10):
        run.frame(hand([0.06 - 0.02 * k, 0, 0]))
    assert (run.targets[-1].position_m == held).all()
    run.see(hand([-0.12, 0, 0]), good=True)
    assert run.engage() == ""
    for _ in range(20):
        run.frame(hand([-0.12, 0, 0]))
    assert np.allclose(run.targets[-1].position_m, held, atol=4e-3)


FAULTS = {
    "nothing in view": lambda at: ((), "not in view"),
    "another identity": lambda at: ((hand(at, track_id=2),), "another right one"),
    "another side": lambda at: ((hand(at, side=Side.LEFT),), "left"),
    "unknown side": lambda at: ((hand(at, side=Side.UNKNOWN),), "unknown"),
    "the other hand alone": lambda at: ((hand(at, side=Side.LEFT, track_id=7),), "not in view"),
    "two of one identity": lambda at: ((hand(at), hand(at)), "identity"),
    "low score": lambda at: ((hand(at, score=0.2),), "score is 0.20"),
    "unsure side": lambda at: ((hand(at, side_score=0.5),), "side is 0.50"),
    "large deviation": lambda at: ((hand(at, position_stddev_m=0.4),), "0.400 m"),
    "unknown deviation": lambda at: ((hand(at, position_stddev_m=-1.0),), "-1.000 m"),
    "NaN deviation": lambda at: ((hand(at, position_stddev_m=np.nan),), "not finite"),
    "NaN": lambda at: ((hand([np.nan, 0, 0]),), "not finite"),
    "NaN turn": lambda at: ((hand(at, rotation=np.full((3, 3), np.nan)),), "not finite"),
    "NaN score": lambda at: ((hand(at, score=np.nan),), "not finite"),
    "infinite": lambda at: ((hand([np.inf, 0, 0]),), "not finite"),
    "broken": lambda at: ((hand(at, fault="keypoints on one line"),), "one line"),
    "jump": lambda at: ((hand(at + [0.0, 0.3, 0.0]),), "jumped"),
    "turned over": lambda at: ((hand(at, turn=[3.0, 0, 0]),), "turned"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_stops_within_100_ms_and_only_the_clutch_goes_on(name):
    run = Run().engaged()
    for k in range(30):
        run.frame(hand([0.005 * k, 0, 0]))
    assert np.linalg.norm(run.targets[-1].velocity_m_s) > 0.1
    at = np.array([0.15, 0.0, 0.0])
    (hands, says) = FAULTS[name](at)
    for _ in range(6):
        run.frame(*hands, good=False)
    stopped = run.targets[-1]
    assert not run.core.engaged and says in run.core.why_stopped and run.core.stops == 1
    for k in range(20):  # the hand is back as if nothing had been
        run.frame(hand(at + [0.004 * k, 0, 0]))
    assert (run.targets[-1].position_m == stopped.position_m).all()
    run.see(hand(at + [0.08, 0, 0]), good=True)
    assert run.engage() == ""


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"stamp_s": 50.0}, "went back"),
        ({"stamp_s": np.nan}, "not a time"),
        ({"age_s": np.nan}, "not a time"),
        ({"age_s": 0.5}, "0.50 s old"),
        ({"age_s": -3.0}, "ahead"),
        ({"stamp_s": "same"}, "stopped coming"),
    ],
)
def test_stamps_that_are_not_honest_stop_it(how, says):
    run = Run().engaged()
    for k in range(30):
        run.frame(hand([0.005 * k, 0, 0]))
    for k in range(6):
        how = {**how, "stamp_s": run.stamp_s} if how.get("stamp_s") == "same" else how
        run.frame(hand([0.005 * (30 + k), 0, 0]), good=False, **how)
        if how.get("stamp_s") == 50.0:
            how = {}  # a clock that was set back runs on from there, and the clutch stays open
    assert not run.core.engaged and says in run.core.why_stopped


def test_silence_and_a_clock_that_goes_back_stop_it():
    run = Run().engaged()
    for k in range(30):
        run.frame(hand([0.005 * k, 0, 0]))
    for _ in range(12):
        run.step()
    assert not run.core.engaged and run.core.why_stopped == "hands stopped coming"
    run = Run().engaged()
    run.frame(hand())
    run.step(-5.0)
    assert not run.core.engaged and "clock went back" in run.core.why_stopped


def moving_run() -> Run:
    run = Run().engaged()
    for k in range(30):
        run.frame(hand([0.005 * k, 0, 0]))
    assert run.targets[-1].velocity_m_s.any()
    return run


@pytest.mark.parametrize("seconds", [0.095, 0.3, 20.0])
def test_a_program_that_stood_still_does_not_go_on_by_itself(seconds):
    """Hands that have queued meanwhile are seen before the first step."""
    run = moving_run()
    run.now_s += seconds
    run.see(hand([0.15, 0, 0]), good=True)
    assert not run.core.engaged and run.core.why_stopped == "hands stopped coming"
    run.now_s -= seconds
    held = run.step(seconds)
    assert not held.moving
    for _ in range(10):
        run.frame(hand([0.2, 0, 0]))
    assert (run.targets[-1].position_m == held.position_m).all() and run.core.stops == 1


@pytest.mark.parametrize("seconds", [0.5, 3600.0])
def test_stamps_that_leap_forward_hide_no_jump(seconds):
    """The clock was set, or the computer slept: what the hand did meanwhile is not known."""
    run = moving_run()
    run.frame(hand([1.0, 0, 0]), good=False, stamp_s=run.stamp_s + seconds)
    assert not run.core.engaged and "ahead of its arrival" in run.core.why_stopped


def test_one_lost_image_does_not_open_the_clutch():
    run = Run().engaged()
    for k in range(30):
        run.frame(hand([0.005 * k, 0, 0]), good=k % 4 != 3) if k % 4 != 3 else run.frame(good=False)
    assert run.core.engaged and run.core.stops == 0


def test_the_clutch_refuses_what_is_not_clear():
    run = Run()
    for _ in range(5):
        run.frame(hand(), hand([0.3, 0, 0], track_id=2))
    run.see(hand(), hand([0.3, 0, 0], track_id=2), good=True)
    assert "2 right hands are in view" in run.engage(start=True)
    run.frame(hand())
    run.see(hand(), good=True)
    assert "outside the workspace box" in run.core.engage(run.now_s, np.array([2.0, 0, 0.3]), np.eye(3))
    assert "not finite" in run.core.engage(run.now_s, np.full(3, np.nan), np.eye(3))
    for position, rotation, says in (
        (np.array([0.2]), np.eye(3), "not \\(1,\\)"),
        (START, np.zeros((3, 3)), "right-handed"),
        (START, np.diag([1.0, 1, -1]), "right-handed"),
        (START, None, "not known where"),
    ):
        assert re.search(says, run.core.engage(run.now_s, position, rotation))
    run.now_s += 0.1
    assert "no good pose" in run.engage(start=True)


def test_a_position_alone_is_where_the_target_goes_on():
    run = Run().engaged()
    for _ in range(5):
        run.frame(hand())
    run.core.disengage("let go")
    for _ in range(10):
        run.frame(hand())
    run.see(hand(), good=True)
    moved = START + [0.05, 0.0, 0.0]
    assert run.core.engage(run.now_s, moved) == "" and (run.core.target.position_m == moved).all()


def test_a_time_that_is_none_leaves_the_target_where_it_is():
    run = Run().engaged()
    for _ in range(5):
        run.frame(hand())
    target = run.core.step(math.nan)
    assert not target.engaged and np.isfinite(target.position_m).all()
    assert np.isfinite(run.core.step(run.now_s + 0.01).position_m).all()


def test_the_gripper_follows_the_pinch_and_waits_for_it_after_reengagement():
    run = Run().engaged(hand(pinch_m=0.1))
    for _ in range(10):
        run.frame(hand(pinch_m=0.1))
    assert run.targets[-1].gripper_opening_m == pytest.approx(0.08)
    for _ in range(30):
        run.frame(hand(pinch_m=0.02))
    assert run.targets[-1].gripper_opening_m == 0
    for pinch in (None, np.nan):
        run.frame(hand(pinch_m=pinch))
    assert run.targets[-1].gripper_opening_m == 0
    run.core.disengage("let go")
    for _ in range(10):
        run.frame(hand(pinch_m=0.1))
    run.see(hand(pinch_m=0.1), good=True)
    assert run.engage() == ""
    for _ in range(10):
        run.frame(hand(pinch_m=0.1))
    assert run.targets[-1].gripper_opening_m == 0  # what it holds is not dropped
    run.frame(hand(pinch_m=0.02))
    for _ in range(30):
        run.frame(hand(pinch_m=0.1))
    assert run.targets[-1].gripper_opening_m == pytest.approx(0.08)


def test_fingers_that_pass_the_grippers_opening_between_two_images_have_come_to_it():
    run = Run().engaged(hand(pinch_m=0.0625))
    for _ in range(10):
        run.frame(hand(pinch_m=0.0625))
    assert run.targets[-1].gripper_opening_m == pytest.approx(0.04)
    run.core.disengage("let go")
    for _ in range(10):
        run.frame(hand(pinch_m=0.03))
    run.see(hand(pinch_m=0.03), good=True)
    assert run.engage() == ""
    for pinch_m in (0.03, 0.05, 0.075, 0.11):  # 20 mm and more an image
        run.frame(hand(pinch_m=pinch_m))
    for _ in range(20):
        run.frame(hand(pinch_m=0.11))
    assert run.targets[-1].gripper_opening_m == pytest.approx(0.08)


def test_a_target_that_cannot_keep_up_with_a_turn_stops_and_never_turns_the_other_way():
    run = Run(TeleoperationConfig(max_turn_rad_s=0.2)).engaged()
    angles = []
    for k in range(40):
        run.frame(hand(turn=(0, 0, 0.1 * k)), good=run.core.engaged)
        angles.append(Rotation.from_matrix(run.targets[-1].rotation).as_rotvec()[2])
        if not run.core.engaged:
            break
    assert "180 degrees" in run.core.why_stopped and min(np.diff(angles)) >= 0 and angles[-1] < 1


def test_a_hand_that_comes_back_elsewhere_moves_nothing_while_it_is_still():
    run = Run().engaged()
    for _ in range(6):
        run.frame(good=False)
    for _ in range(2):
        run.frame(hand([0.4, 0, 0]))
    run.see(hand([0.4, 0, 0]), good=True)
    assert run.engage() == ""
    before = run.targets[-1].position_m
    for _ in range(20):
        run.frame(hand([0.4, 0, 0]))
    assert np.allclose(run.targets[-1].position_m, before, atol=1e-6)


@pytest.mark.parametrize("flickers", [False, True])
def test_another_source_of_metres_moves_nothing(flickers):
    run = Run().engaged(hand(scale_source=ScaleSource.DEPTH))
    for k in range(60):
        depth = k < 10 or (flickers and k % 2)
        source, x = (ScaleSource.DEPTH, 0.0) if depth else (ScaleSource.CALIBRATED, 0.3)
        run.frame(hand([x, 0, 0], scale_source=source))
    assert np.allclose(run.targets[-1].position_m, START, atol=1e-6)
    for k in range(60):
        run.frame(hand([x + 0.1 * min(k / 30, 1), 0, 0], scale_source=source))
    assert np.allclose(run.targets[-1].position_m, START + [0.1, 0, 0], atol=2e-3)
    assert run.core.engaged and run.core.stops == 0


def test_sources_of_metres_that_change_again_and_again_leave_the_gripper_as_it_is():
    """Each comparison errs a little; the errors must not add up."""
    rng = np.random.default_rng(0)
    run = Run().engaged(hand(scale_source=ScaleSource.DEPTH, pinch_m=0.04))
    for _ in range(20):
        run.frame(hand(scale_source=ScaleSource.DEPTH, pinch_m=0.04))
    before = run.targets[-1].gripper_opening_m
    for k in range(30 * 60):
        depth = k // 21 % 2 == 0
        source, larger = (ScaleSource.DEPTH, 1.0) if depth else (ScaleSource.ASSUMED, 1.1)
        run.frame(hand(scale_source=source, pinch_m=larger * 0.04 + rng.normal(0, 0.0015)))
    assert run.core.engaged
    assert abs(run.targets[-1].gripper_opening_m - before) < 0.012


def test_a_hand_that_is_hardly_of_the_other_side_is_a_rival():
    run = Run()
    bystander = hand(side=Side.LEFT, side_score=0.05, track_id=9)
    for _ in range(10):
        run.see(hand(), bystander, good=True)
    assert "only one may be" in run.engage(start=True)


@pytest.mark.parametrize(("flickers", "unseen"), [(False, False), (True, False), (True, True)])
def test_another_source_of_metres_leaves_the_gripper_as_it_is(flickers, unseen):
    """Metres that are 1.4 times as long make no pinch wider; a hand that opens opens it."""
    run = Run().engaged(hand(scale_source=ScaleSource.DEPTH, pinch_m=0.04))

    def see(k, pinch_m):
        depth = k < 10 or (flickers and k % 2)
        source, larger = (ScaleSource.DEPTH, 1.0) if depth else (ScaleSource.ASSUMED, 1.4)
        run.frame(hand(scale_source=source, pinch_m=larger * pinch_m))

    for k in range(60):
        see(k, np.nan if k == 10 and unseen else 0.04)
        if k == 9:
            before = run.targets[-1].gripper_opening_m
    assert 0 < before < 0.08 and run.targets[-1].gripper_opening_m == pytest.approx(before, abs=1e-9)
    for k in range(60, 90):
        see(k, 0.1)
    assert run.targets[-1].gripper_opening_m == pytest.approx(0.08)


@pytest.mark.parametrize("every", [2, 3])
def test_a_hand_is_followed_where_metres_come_from_two_sources_in_turn(every):
    """Depth of half of the images, or of all but every third: the sources put the hand 10 cm apart."""
    run = Run().engaged(hand(scale_source=ScaleSource.DEPTH))
    for k in range(90):
        depth, x = k % every > 0, 0.2 * min(k / 60, 1)
        source = ScaleSource.DEPTH if depth else ScaleSource.ASSUMED
        run.frame(hand([x, 0, 0.0 if depth else 0.1], scale_source=source))
    assert np.allclose(run.targets[-1].position_m, START + [0.2, 0, 0], atol=0.01)
    assert run.core.engaged and run.core.stops == 0


@pytest.mark.parametrize("before", ["", 10 * "A" + 30 * "D"])
@pytest.mark.parametrize("pattern", ["DA", "DDDAAA", "DDDDDDDDAAAAAAAA", "DDDDA", "AAAAD"])
def test_sources_that_alternate_agree_wherever_the_hand_goes(pattern, before):
    """Another size puts the hand elsewhere on its ray: what two sources differ by shrinks as it comes nearer."""
    sources = {"D": (ScaleSource.DEPTH, 1.0), "A": (ScaleSource.ASSUMED, 1.15)}
    eye, ends = np.array([1.2, 0.1, 0.6]), []

    def see(k, x):
        source, farther = sources[pattern[k % len(pattern)]]
        seen = eye + farther * (np.array([x, 0.0, 0.3]) - eye)
        run.frame(hand(seen, scale_source=source, camera_m=eye))
        ends.append(run.targets[-1].position_m if run.targets else START)

    source, farther = sources[pattern[0]]
    run = Run().engaged(hand(eye + farther * ([0.3, 0.0, 0.3] - eye), scale_source=source, camera_m=eye))
    for each in before:  # a source that was alone for a while
        source, farther = sources[each]
        run.frame(hand(eye + farther * ([0.3, 0.0, 0.3] - eye), scale_source=source, camera_m=eye))
    for k in range(120):
        see(k, 0.3 + 0.2 * min(k / 60, 1))
    assert np.ptp(ends[-40:], axis=0).max() < 0.003
    assert ends[-1][0] - START[0] == pytest.approx(0.2, rel=0.16)  # of one size or the other
    assert run.core.engaged and run.core.stops == 0


@pytest.mark.parametrize("closed", [False, True])
def test_a_source_that_stays_says_how_far_the_hand_moves(closed):
    """Metres that were assumed too large, then depth for good: 10 cm are 10 cm."""
    eye, run = np.array([1.2, 0.1, 0.6]), Run()

    def seen(x, farther, source):
        return hand(eye + farther * ([x, 0.0, 0.3] - eye), scale_source=source, camera_m=eye)

    assumed = seen(0.3, 1.6, ScaleSource.ASSUMED)
    if closed:
        run.engaged(assumed)
    else:
        for _ in range(10):
            run.frame(assumed)
    for _ in range(30):
        run.frame(seen(0.3, 1.0, ScaleSource.DEPTH))
    if not closed:
        run.see(seen(0.3, 1.0, ScaleSource.DEPTH), good=True)
        assert run.engage(start=True) == ""
    for k in range(90):
        run.frame(seen(0.3 + 0.1 * min(k / 30, 1), 1.0, ScaleSource.DEPTH))
    assert np.allclose(run.targets[-1].position_m, START + [0.1, 0, 0], atol=2e-3)
    assert run.core.engaged and run.core.stops == 0


def test_a_robot_that_does_not_follow_opens_the_clutch():
    run = Run().engaged(hand())
    for k in range(30):
        run.frame(hand([0.004 * k, 0, 0]))
        target = run.core.target
        run.core.robot_at(target.position_m - [0.09, 0, 0], target.rotation)
    assert run.core.engaged
    run.core.robot_at(target.position_m - [0.11, 0, 0], target.rotation)
    assert not run.core.engaged and run.core.why_stopped == "the robot is 0.11 m from its target"
    for place, rotation, words in (
        (np.full(3, np.nan), np.eye(3), "nan m from"),
        (START, Rotation.from_rotvec([0, 0, 0.7]).as_matrix(), "turned by 0.7 rad from its target"),
    ):
        run = Run().engaged(hand())
        run.core.robot_at(place, rotation)
        assert not run.core.engaged and words in run.core.why_stopped and run.core.stops == 1


@pytest.mark.parametrize("rate_hz", [15, 20])
def test_a_turn_that_passes_180_degrees_between_images_is_not_taken_for_one_the_other_way(rate_hz):
    for phase_s in np.linspace(0, 1 / rate_hz, 9):
        core = Teleoperation(replace(CONFIG, turn_scale=0.5))
        begin_s, least, seen_s = 4 + phase_s, 0.0, 0.0
        for now_s in np.arange(0, 6, STEP_S):
            if now_s >= seen_s - 1e-9:
                seen_s += 1 / rate_hz
                angle = min(0.9 * max(now_s - 0.5, 0), 2.5) + np.clip(16 * (now_s - begin_s), 0, 1.2)
                core.see([hand(turn=[0, 0, angle])], now_s, 0.0, now_s)
            if core.target is None and now_s > 0.1:
                assert core.engage(now_s, START, np.eye(3)) == ""
            target = core.step(now_s)
            least = min(least, target.turn_rad_s[2]) if target is not None else least
        assert not core.engaged and least > -0.1


def test_a_hand_without_identity_is_not_followed():
    run = Run()
    for _ in range(5):
        run.frame(hand(track_id=0), good=False)
    assert "no identity" in run.engage(start=True)


def test_only_a_new_good_image_is_one():
    core = Teleoperation()
    assert core.see([hand()], 1.0, 0.0, 1.0) and not core.see([hand()], 1.0, 0.0, 1.01)
    assert not core.see([hand(score=0.1)], 1.1, 0.0, 1.1) and not core.see([], 1.2, 0.0, 1.2)


EVENTS = (
    *("move",) * 6,
    *("engage",) * 3,
    *("nothing", "silence", "stall", "release", "jump", "swap", "side", "score", "stddev", "nan", "stale", "repeat"),
    *("stamp back", "now back", "other hand", "two", "broken", "burst"),
)


@settings(max_examples=300)
@example(events=[("move", 2, 3), ("move", 1, 0), ("move", 1, 0), ("stall", 1, 0)], slow=True)
@given(
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 8), st.integers(0, 2**31)), max_size=25),
    slow=st.booleans(),
)
def test_random_streams_of_hands(events, slow):
    config = replace(CONFIG, max_speed_m_s=0.05, turn_scale=0.5, rate_hz=150.0) if slow else CONFIG
    run = Run(config).engaged()
    at, turn, track = np.zeros(3), np.zeros(3), 1
    for event, count, seed in events:
        rng = np.random.default_rng(seed)
        speed, spin = rng.normal(size=3) * rng.choice([0.1, 1.0, 3.0]), rng.normal(size=3) * rng.choice([0.2, 3.0])
        for _ in range(count):
            at, turn = at + speed * FRAME_S * rng.uniform(0, 1), turn + spin * FRAME_S
            seen = hand(at, turn, track_id=track, pinch_m=rng.uniform(0, 0.15))
            if event == "move":
                run.frame(seen)
            elif event == "engage":
                run.see(seen, good=True)
                run.engage(start=False)
                run.frame(seen)
            elif event == "nothing":
                run.frame(good=False)
            elif event == "silence":
                for _ in range(4):
                    run.step(rng.uniform(0.2, 1.5) * STEP_S)
            elif event == "stall":
                run.step(rng.uniform(0.0, 0.5))
            elif event == "release":
                run.core.disengage("let go")
                run.step()
            elif event == "jump":
                at = at + rng.normal(size=3) * 5
                run.frame(hand(at, turn, track_id=track))  # of another time a good pose, though not the same motion
            elif event == "swap":
                track += 1
                run.frame(hand(at, turn, track_id=track))
            elif event == "side":
                run.frame(replace(seen, side=Side.LEFT), good=False)
            elif event == "score":
                run.frame(replace(seen, score=rng.uniform(0, 0.49)), good=False)
            elif event == "stddev":
                run.frame(replace(seen, position_stddev_m=rng.choice([-1.0, 0.2, 9.0])), good=False)
            elif event == "nan":
                bad = seen.position_m.copy()
                bad[rng.integers(3)] = rng.choice([np.nan, np.inf, -np.inf])
                run.frame(replace(seen, position_m=bad), good=False)
            elif event == "stale":
                run.frame(seen, good=False, age_s=rng.uniform(0.3, 10))
            elif event == "repeat":
                run.frame(seen, good=False, stamp_s=run.stamp_s)
            elif event == "stamp back":
                run.frame(seen, good=False, stamp_s=run.stamp_s - rng.uniform(0.001, 100))
            elif event == "now back":
                back = rng.uniform(0.0, 1.0)
                run.last_good_s = run.now_s - back  # from then on it has its 100 ms
                run.step(-back)
            elif event == "other hand":
                run.frame(seen, hand(-at, side=Side.LEFT, track_id=99))
            elif event == "two":
                run.frame(seen, hand(-at, track_id=100))
            elif event == "broken":
                run.frame(replace(seen, fault="broken"), good=False)
            elif event == "burst":
                for _ in range(3):
                    run.see(seen, good=True, age_s=0.1)
    for _ in range(15):
        run.step()
    assert not run.targets[-1].moving


def test_observe_takes_wrist_and_pinch_into_the_base_frame():
    points = keypoints_of({}) + [0.1, 0.2, 0.5]
    seen = hand_from(points, points[:, :2]).replace(
        keypoints_m=points, scale_source=ScaleSource.CALIBRATED, position_stddev_m=0.02, track_id=4
    )
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    found = observe(seen, turn, np.array([1.0, 0, 0]))
    assert np.allclose(found.position_m, [1 - 0.2, 0.1, 0.5])
    assert np.allclose(found.rotation, turn @ seen.rotation_camera_wrist)
    assert found.pinch_m == pytest.approx(np.linalg.norm(points[4] - points[8]))
    assert (found.track_id, found.side, found.fault) == (4, Side.RIGHT, "")
    hidden = observe(seen.replace(keypoint_scores=np.zeros(21)), turn, np.zeros(3))
    assert hidden.pinch_m is None
    assert "metric scale" in observe(hand_from(points, points[:, :2]), turn, np.zeros(3)).fault
    assert "not finite" in observe(seen.replace(keypoints_m=points * np.nan), turn, np.zeros(3)).fault
    assert "m away" in observe(seen.replace(keypoints_m=points * 1e300), turn, np.zeros(3)).fault


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"x_min_m": 0.8}, r"workspace.x_min \(0.8 m\) must be less than x_max"),
        ({"stop_within_s": 0.3}, "stop.within must lie between 0.02 and 0.1 s"),
        ({"stop_within_s": 0.05}, "leaves no time to brake"),
        ({"max_speed_m_s": float("nan")}, "limits.speed must lie between"),
        ({"pinch_closed_m": 0.15}, "pinch_closed"),
        ({"hand_side": "any"}, "left, right"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(values, says):
    with pytest.raises(InvalidInputError, match=says):
        TeleoperationConfig(**values)
