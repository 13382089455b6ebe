"""The peer's conventions, on a stand-in for its package."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hand_pose_3d.skeleton import Side

POINTS = np.random.default_rng(9).uniform(0.1, 0.9, (21, 3))


class Hands:
    options: dict = {}

    def __init__(self, **options):
        Hands.options = options

    def process(self, image):
        if not image.any():
            return SimpleNamespace(multi_hand_landmarks=None, multi_hand_world_landmarks=None, multi_handedness=None)
        points = [SimpleNamespace(x=x, y=y, z=z) for x, y, z in POINTS]
        sides = [SimpleNamespace(label="Right", score=0.7), SimpleNamespace(label="Left", score=0.9)]
        return SimpleNamespace(
            multi_hand_landmarks=[SimpleNamespace(landmark=points)] * 2,
            multi_hand_world_landmarks=[SimpleNamespace(landmark=points)] * 2,
            multi_handedness=[SimpleNamespace(classification=[side]) for side in sides],
        )


@pytest.fixture
def peer(monkeypatch):
    module: Any = ModuleType("mediapipe.python.solutions.hands")
    module.Hands = Hands
    for name in ("mediapipe", "mediapipe.python", "mediapipe.python.solutions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    from hand_pose_3d.evaluation.mediapipe_hands import MediaPipeHands

    return MediaPipeHands(max_hands=2)


def test_pixels_sides_and_order(peer):
    first, second = peer(np.ones((100, 200, 3), np.uint8))
    assert Hands.options["static_image_mode"] and Hands.options["max_num_hands"] == 2
    assert (first.side, first.score) == (Side.RIGHT, 0.9)  # it calls the sides as in a mirror
    assert (second.side, second.score) == (Side.LEFT, 0.7)
    np.testing.assert_allclose(first.keypoints_px, POINTS[:, :2] * [200, 100])
    assert first.keypoints_m is None
    assert np.linalg.norm(first.keypoints_relative[6] - first.keypoints_relative[5]) == pytest.approx(1)
    ratio = (POINTS - POINTS[0])[1:] / first.keypoints_relative[1:]
    np.testing.assert_allclose(ratio, ratio[0, 0])


def test_no_hand(peer):
    assert peer(np.zeros((10, 10, 3), np.uint8)) == []
