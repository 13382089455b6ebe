"""Clutches close only on purpose and open on everything else."""

from __future__ import annotations

import numpy as np
import pytest

from hand_pose_3d.clutch import HeldClutch, PinchClutch
from hand_pose_3d.skeleton import Side
from hand_pose_3d.teleoperation import Observation


def other(pinch_m, track_id=5, score=0.9, side=Side.LEFT, side_score=0.9):
    return Observation(side, side_score, track_id, score, np.zeros(3), np.eye(3), 0.02, pinch_m)


def test_a_button_closes_when_pressed_and_opens_when_let_go_or_silent():
    clutch = HeldClutch()
    assert clutch.update(True, 0.0) is None  # held since before the start: nobody has pressed it
    assert clutch.update(False, 0.05) is None
    assert clutch.update(True, 0.1) is True and clutch.closed
    assert clutch.update(True, 0.15) is None
    assert clutch.update(False, 0.2) is False
    assert clutch.update(True, 0.25) is True
    assert clutch.update(None, 0.3) is None
    assert clutch.update(None, 0.4) is False
    assert clutch.update(True, 0.45) is None  # still held, but not pressed anew
    assert clutch.update(False, 0.5) is None and clutch.update(True, 0.55) is True
    assert clutch.update(True, 0.0) is False  # a clock that goes back
    assert clutch.update(False, 0.05) is None and clutch.update(True, 0.1) is True  # and goes on from there


def test_what_was_not_looked_at_for_long_has_to_be_seen_open_again():
    """Whether or not somebody asked meanwhile."""
    clutch = HeldClutch(0.1)
    assert clutch.update(False, 0.0) is None
    assert not any(clutch.update(True, 10.0 + 0.05 * k) for k in range(5))
    assert clutch.update(False, 10.3) is None
    assert [clutch.update(True, 10.35 + 0.06 * k) for k in range(3)] == [None, None, True]


def test_a_pinch_is_held_for_a_moment_before_it_closes():
    clutch = PinchClutch(Side.LEFT)
    answers = [clutch.update([other(0.02)], 0.03 * k) for k in range(10)]
    assert not any(answers)  # it was never seen open
    assert clutch.update([other(0.08)], 0.30) is None
    answers = [clutch.update([other(0.02)], 0.33 + 0.03 * k) for k in range(8)]
    assert answers.index(True) == 4
    assert clutch.update([other(0.04)], 0.57) is None  # between closed and open
    assert clutch.update([other(0.05)], 0.60) is False


def closed() -> PinchClutch:
    clutch = PinchClutch(Side.LEFT)
    clutch.update([other(0.08)], 0.0)
    for k in range(1, 6):
        last = clutch.update([other(0.02)], 0.03 * k)
    assert last is True
    return clutch


def test_a_pinch_that_is_lost_hidden_or_somebody_elses_opens():
    for hands in ([], [other(None)], [other(np.nan)], [other(0.02, score=0.1)], [other(0.02), other(0.02, 6)]):
        clutch = closed()
        assert clutch.update(hands, 0.2) is None
        assert clutch.update(hands, 0.3) is False
    assert closed().update([other(0.02, track_id=6)], 0.2) is False
    assert closed().update([other(0.02, side=Side.RIGHT)], 0.3) is False


@pytest.mark.parametrize("side_score", [0.05, 0.5, np.nan])
def test_a_hand_that_is_hardly_of_its_side_closes_nothing(side_score):
    clutch = PinchClutch(Side.LEFT)
    for k in range(12):
        assert clutch.update([other(0.06 if k < 4 else 0.02, side_score=side_score)], k / 30) is None
