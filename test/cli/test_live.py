"""hand_pose_3d live without a camera: what it says, and the loop on a file in the camera's place."""

import sys
import time

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d.cli import live, main


def run(*arguments):
    return CliRunner().invoke(main, ["live", *map(str, arguments)])


@pytest.fixture
def clip(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in (50, 100, 150, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device names of Linux")
def test_a_missing_camera_is_named(fake_estimator):
    result = run("--camera", 250)
    assert result.exit_code == 1 and "there is no camera /dev/video250" in result.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device names of Linux")
def test_a_forbidden_camera_says_what_to_do(fake_estimator, monkeypatch):
    monkeypatch.setattr(live.os, "access", lambda path, mode: False)
    result = run("--camera", "/dev/null")
    assert result.exit_code == 1 and "group video" in result.output


def test_what_is_not_a_camera_is_refused(fake_estimator, tmp_path):
    result = run("--camera", tmp_path / "nothing.mp4")
    assert result.exit_code == 1 and "cannot open the camera" in result.output


def test_without_a_display_there_is_no_window(fake_estimator, monkeypatch, clip):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = run("--camera", clip)
    if sys.platform.startswith("linux"):
        assert result.exit_code == 1 and "no display" in result.output


@pytest.mark.parametrize("arguments", [["--size", "big"], ["--size", "0x10"], ["--size", "²x²"], ["--save", "a.rrd"]])
def test_bad_options_are_refused(fake_estimator, arguments):
    result = run(*arguments)
    assert result.exit_code != 0 and "Traceback" not in result.output


def test_every_frame_is_estimated_and_shown(fake_estimator, monkeypatch, clip):
    shown = []

    def viewer():
        def show(image, hands, time_s, text):
            shown.append((image.shape, len(hands), text))
            return True

        return show

    monkeypatch.setattr(live, "_window_viewer", viewer)
    begin = time.monotonic()
    result = run("--camera", clip)
    assert result.exit_code == 0, result.output
    assert time.monotonic() - begin > 0.29
    assert [frame[:2] for frame in shown] == [((48, 64, 3), 1)] * 4
    assert "lite on cpu" in shown[-1][2] and "4 frames" in result.output
    (estimator,) = fake_estimator.made
    assert estimator.tracking
    stamps = [call[2] for call in estimator.calls]
    assert np.diff(stamps) == pytest.approx(0.1)  # the video's own times, and as long as it takes
    assert "2 frames" in run("--camera", clip, "--frames", 2).output
    assert run("--camera", clip, "--frames", 1).output == "1 frame\n"


def test_a_refused_command_leaves_an_earlier_recording(fake_estimator, clip, tmp_path):
    pytest.importorskip("rerun")
    saved = tmp_path / "a.rrd"
    arguments = ("--camera", clip, "--viewer", "rerun", "--save", saved)
    assert run(*arguments).exit_code == 0
    before = saved.read_bytes()
    assert run(*arguments, "--device", "cuda:9").exit_code == 1 and saved.read_bytes() == before
