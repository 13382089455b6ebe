"""The demo of teleoperation: what it leaves, and what it says about bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("trajectory_msgs")
pytest.importorskip("mujoco")
pytest.importorskip("mink")
pytest.importorskip("gymnasium_robotics")
pytest.importorskip("dex_retargeting")

from ros_client import HERE

DEMO = f"""
import sys
from hand_pose_3d.ros.teleop_demo import main
sys.exit(main(sys.argv[1:], ({str(HERE / "fake_estimator.py")!r},)))
"""


def run_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DEMO, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE.parents[1])


def test_it_leaves_a_video_a_picture_and_a_table(tmp_path):
    clip = tmp_path / "bright.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for k in range(20):
        writer.write(np.full((48, 64, 3), 40 + 3 * k, np.uint8))
    writer.release()
    out = tmp_path / "out"
    done = run_demo("--input", clip, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    frames = cv2.VideoCapture(str(out / "teleop.mp4"))
    assert frames.get(cv2.CAP_PROP_FRAME_COUNT) > 5 and frames.read()[1].shape == (720, 1360, 3)
    assert cv2.imread(str(out / "teleop.png")).shape == (720, 1360, 3)
    table = (out / "figures.txt").read_text(encoding="utf-8")
    assert table.strip() in done.stdout
    for row in ("latency, image to hands message", "processor time of hand_teleop", "stops", "cube"):
        assert f"\n{row}" in table


def test_a_photograph_is_refused_in_words(tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.zeros((48, 64, 3), np.uint8))
    done = run_demo("--input", photo, "--out", tmp_path / "out")
    assert done.returncode == 1 and "nothing moves in it" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_built_in_clip_states_its_camera():
    from hand_pose_3d.ros.pictures import open_pictures

    pictures = open_pictures("teleop_clip")
    first = next(iter(pictures.start()))
    assert pictures.camera is not None and pictures.kind == "clip"
    assert first.shape[:2] == (pictures.camera.height, pictures.camera.width) == (480, 640)


def test_the_camera_looks_back_at_the_operator():
    from scipy.spatial.transform import Rotation

    from hand_pose_3d.ros.teleop_demo import PARAMETERS

    turn = Rotation.from_euler("xyz", [PARAMETERS["camera.roll"], 0, PARAMETERS["camera.yaw"]]).as_matrix()
    towards_camera, to_the_pictures_left, up = [0, 0, -1], [-1, 0, 0], [0, -1, 0]
    assert turn @ towards_camera == pytest.approx([1, 0, 0], abs=1e-9)  # ahead
    assert turn @ to_the_pictures_left == pytest.approx([0, -1, 0], abs=1e-9)  # to the right
    assert turn @ up == pytest.approx([0, 0, 1], abs=1e-9)


def test_it_is_a_program():
    program = Path(HERE.parents[1]) / "hand_pose_3d" / "ros" / "bin" / "teleop_demo"
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--clutch" in done.stdout
