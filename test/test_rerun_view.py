"""What is logged to rerun; the library itself is not needed."""

import math
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.rerun_view import RerunView


@pytest.fixture
def rerun(monkeypatch):
    stub = MagicMock()
    monkeypatch.setitem(sys.modules, "rerun", stub)
    monkeypatch.setitem(sys.modules, "rerun.blueprint", stub.blueprint)
    return stub


def a_hand(track_id):
    points = keypoints_of({}) + [0, 0, 0.5]
    hand = hand_from(points, points[:, :2] * 900 + 300, track_id=track_id)
    return hand.replace(keypoints_m=points, scale_m=0.042, scale_source=ScaleSource.ASSUMED)


def logged(rerun) -> list[str]:
    paths = [call.args[0] for call in rerun.log.call_args_list]
    rerun.log.reset_mock()
    return paths


def test_a_hand_is_shown_everywhere_and_vanishes_when_it_is_gone(rerun):
    view = RerunView("out.rrd")
    rerun.save.assert_called_once_with("out.rrd")
    rerun.init.assert_called_once_with("hand_pose_3d", spawn=False)
    logged(rerun)
    view.hands([a_hand(7)], 1.5)
    rerun.set_time.assert_called_with("time", duration=1.5)
    paths = logged(rerun)
    for place in ("camera", "pose", "pose/hand_7/viewpoint", "scores", "angles"):
        assert (place if "/" in place else f"{place}/hand_7") in paths
    assert len(rerun.Scalars.call_args_list[-1].args[0]) == 20
    view.hands([a_hand(7)], 1.6)
    rerun.Clear.assert_not_called()
    logged(rerun)
    view.hands([], 1.7)
    assert sorted(logged(rerun)) == ["angles/hand_7", "camera/hand_7", "pose/hand_7", "scores/hand_7"]
    assert rerun.Clear.call_count == 4
    view.hands([], 1.8e9)  # in 2027
    rerun.set_time.assert_called_with("time", timestamp=1.8e9)


def test_axes_are_the_viewpoint_at_the_wrist_as_long_as_the_reference_bone(rerun):
    hand = a_hand(1)
    RerunView().hands([hand], 0.0)
    arrows = rerun.Arrows3D.call_args.kwargs
    np.testing.assert_allclose(arrows["origins"], [hand.keypoints_m[0]] * 3)
    np.testing.assert_allclose(np.transpose(arrows["vectors"]), 0.042 * hand.rotation_camera_canonical)


def test_an_image_and_its_text(rerun):
    view = RerunView()
    rerun.init.assert_called_once_with("hand_pose_3d", spawn=True)
    logged(rerun)
    view.image(np.zeros((4, 4, 3), np.uint8), 2.0, "30 Hz")
    assert logged(rerun) == ["camera", "log"]


@pytest.mark.parametrize("stamp_s", [math.nan, math.inf, 1e11])
def test_a_stamp_that_is_no_time_is_refused(rerun, tmp_path, stamp_s):
    with pytest.raises(InvalidInputError, match="a stamp must be"):
        RerunView(tmp_path / "unused.rrd").image(np.zeros((4, 4, 3), np.uint8), stamp_s)
