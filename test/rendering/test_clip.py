"""The built-in clip: its truth fits its pictures, and its hands come and go."""

import json
from pathlib import Path

import cv2
import numpy as np

import hand_pose_3d
from hand_pose_3d.camera import Camera
from hand_pose_3d.rendering.clip import write_clip

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


def test_a_clip_is_made_of_the_stated_motion(maker, tmp_path):
    write_clip(tmp_path, seconds=0.1)
    truth = json.loads((tmp_path / "clip.json").read_text(encoding="utf-8"))
    shipped = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
    assert truth["camera"] == shipped["camera"] and truth["fps"] == shipped["fps"]
    camera, capture = Camera(**truth["camera"]), cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    for entry in truth["frames"]:
        (hand,) = entry["hands"]  # the left one is still outside
        assert hand["side"] == "right"
        np.testing.assert_allclose(hand["keypoints"][0], [0.05, 0.10, 0.52], atol=0.002)  # where it begins
        np.testing.assert_allclose(camera.project(np.array(hand["keypoints"])), hand["keypoints_2d"], atol=0.05)
        picture = capture.read()[1].astype(int)
        palm = np.mean([hand["keypoints_2d"][k] for k in (0, 5, 9, 13, 17)], axis=0).round().astype(int)
        blue, _, red = picture[palm[1] - 2 : palm[1] + 3, palm[0] - 2 : palm[0] + 3].mean(axis=(0, 1))
        assert red > blue + 10  # skin
    assert len(truth["frames"]) == 3 and not capture.read()[0]
