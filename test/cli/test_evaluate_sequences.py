"""hand_pose_3d evaluate --dataset sequence."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d.cli import main
from hand_pose_3d.outputs import VideoWriter


def evaluate(*arguments):
    return CliRunner().invoke(main, ["evaluate", "--dataset", "sequence", *map(str, arguments)])


@pytest.fixture
def root(tmp_path, fake_estimator):
    """Two videos of 100x80: a hand where the fake finds one, from the eighth frame on, and none."""
    grid = np.array([[0.5, 0.9]] + [[0.2 + 0.15 * f, 0.6 - 0.1 * j] for f in range(5) for j in range(4)])
    hand = {"side": "right", "keypoints_2d": (grid * [100, 80]).tolist()}
    for name, first in (("comes", 8), ("empty", 30)):
        video, frames = VideoWriter(tmp_path / f"{name}.mp4", 30), []
        for index in range(30):
            video.add(np.full((80, 100, 3), 0 if index < 11 or first == 30 else 200, np.uint8), index / 30)
            frames.append({"hands": [hand] if index >= first else []})
        video.close()
        (tmp_path / f"{name}.json").write_text(json.dumps({"fps": 30, "frames": frames}))
    return tmp_path


def test_metrics_and_plot(root, fake_estimator):
    pytest.importorskip("matplotlib")
    result = evaluate("--root", root, "--max-hands", 4, "--json", root / "out/f.json", "--plot", root / "out/p.png")
    assert result.exit_code == 0, result.output
    (estimator,) = fake_estimator.made
    assert estimator.tracking and not estimator.options["tracker"].smoothing.enabled
    assert estimator.options["max_hands"] == 4 and estimator.resets == 2
    assert "videos 2, frames 60, hands that stay long enough to be followed 1" in result.output
    content = json.loads((root / "out/f.json").read_text())
    assert content["figures"]["until_followed_s"][0]["seconds"] == pytest.approx(0.1)
    assert content["figures"]["recall"] == {"share": 19 / 22, "count": 19, "of": 22}
    assert content["peer"] is None and cv2.imread(str(root / "out/p.png")) is not None


@pytest.mark.parametrize("option", [("--upscale", 320), ("--split", "training"), ("--worst", "x")])
def test_options_for_poses_are_refused(root, fake_estimator, option):
    result = evaluate("--root", root, *option)
    assert result.exit_code == 1
    assert result.output.splitlines() == [f"Error: {option[0]} has no meaning for --dataset sequence"]
    assert not fake_estimator.made


def test_a_folder_without_labelled_videos_is_told(tmp_path, fake_estimator):
    result = evaluate("--root", tmp_path)
    assert result.exit_code == 1 and "holds no video, NAME.mp4, with a NAME.json beside it" in result.output
