"""The built-in clip: its truth fits its pictures, and its hands come and go."""

import json
from pathlib import Path

import cv2
import numpy as np

import hand_pose_3d
from hand_pose_3d.camera import Camera

CLIP = Path(hand_pose_3d.__file__).parent / "data" / "clip.mp4"


def test_truth_belongs_to_the_clip():
    truth = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
    camera = Camera(**truth["camera"])
    capture = cv2.VideoCapture(str(CLIP))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(truth["frames"])
    assert capture.get(cv2.CAP_PROP_FPS) == truth["fps"]
    ok, frame = capture.read()
    assert ok and frame.shape[:2] == (camera.height, camera.width)
    for entry in truth["frames"]:
        for hand in entry["hands"]:
            np.testing.assert_allclose(camera.project(np.array(hand["keypoints"])), hand["keypoints_2d"], atol=0.05)


def test_hands_come_and_go():
    frames = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["frames"]
    right, left = (["".join(h["side"][0] for h in f["hands"]).count(side) for f in frames] for side in "rl")
    assert right[0] == right[-1] == 1 and left[0] == left[-1] == 0
    assert np.count_nonzero(np.diff(right)) == 2 and np.count_nonzero(np.diff(left)) == 2
    assert sum(r and x for r, x in zip(right, left, strict=True)) > 20


def test_hands_move_smoothly():
    frames = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["frames"]
    for before, after in zip(frames, frames[1:], strict=False):
        for side in ("left", "right"):
            pair = [h["keypoints"] for f in (before, after) for h in f["hands"] if h["side"] == side]
            if len(pair) == 2:
                assert np.abs(np.subtract(*pair)).max() < 0.06
