"""The shipped networks on rendered scenes that they were not trained on: clear hands are found, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest

from hand_pose_3d.datasets.boxes import read_boxes
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.evaluation.benchmark.frames import read_clip
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.images import CLIP

SCENES = read_boxes(Path(__file__).parent / "data" / "scenes")
NEEDED_IOU = 0.4
MISSED = 1
"""Scenes with hands in which none may be found, so that other weights that are as good pass too."""


@pytest.fixture(scope="module")
def predictions():
    """Boxes of the hands found in each scene by an estimator as anyone makes it, but for the number of hands."""
    estimator = HandPoseEstimator(device="cpu", max_hands=4)
    return {scene.name: [box_of(hand.keypoints_px) for hand in estimator(scene.image())] for scene in SCENES}


def test_clear_hands_are_found(predictions):
    missed = []
    for scene in SCENES:
        clear = [hand.box_px for hand in scene.hands if not hand.ignore]
        if clear and not any(box_iou(a, b) > NEEDED_IOU for a in clear for b in predictions[scene.name]):
            missed.append(scene.name)
    assert len(missed) <= MISSED, missed


def test_nothing_beside_the_hands_is_taken_for_one(predictions):
    for scene in SCENES:
        for box in predictions[scene.name]:
            assert any(box_iou(hand.box_px, box) > NEEDED_IOU for hand in scene.hands), scene.name


def test_no_hand_is_found_where_there_is_none(predictions):
    found = {scene.name: predictions[scene.name] for scene in SCENES if not scene.hands}
    assert len(found) == 4 and not any(found.values()), (EstimatorConfig.score_threshold, found)


def test_scenes_hold_clear_hands_of_different_sizes():
    sizes = [max(scene.relative_size(hand) for hand in scene.hands) for scene in SCENES if scene.hands]
    assert len(sizes) == 6 and min(sizes) < 0.16 and max(sizes) > 0.4


def test_the_papers_networks_put_a_skeleton_on_the_hand():
    """On the first second of the built-in clip, which shows one open hand."""
    frames = read_clip(41).frames[::20]
    truth = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["frames"][:41:20]
    estimator = HandPoseEstimator(model="paper", device="cpu", max_hands=1)
    for frame, record in zip(frames, truth, strict=True):
        (expected,) = record["hands"]
        (hand,) = estimator(frame)
        uv = np.array(expected["keypoints_2d"])
        assert hand.side.label == expected["side"]
        assert np.median(np.linalg.norm(hand.keypoints_px - uv, axis=1)) < 0.05 * np.ptp(uv, axis=0).max()
