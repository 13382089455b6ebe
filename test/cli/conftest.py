"""An estimator without networks, for tests of commands."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hand_pose_3d.errors import DeviceError
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.skeleton import Side


class FakeEstimator:
    """Finds one hand that fills the middle of every image that is not black."""

    model, precision, backend, made = "lite", "float32", "onnxruntime", []

    def __init__(self, device="auto", tracking=False, hand_side="auto", **options):
        if device == "cuda:9":
            raise DeviceError("device 'cuda:9' is not there: this machine has no GPU")
        self.device, self.tracking, self.options = "cpu", tracking, options
        self.keypoints = "thorough" if options.get("keypoints") == "thorough" else "fast"
        self.configure(hand_side)
        self.calls, self.resets = [], 0
        FakeEstimator.made.append(self)

    def configure(self, hand_side):
        self.config = SimpleNamespace(hand_side=hand_side)
        self.side = Side.LEFT if hand_side == "left" else Side.RIGHT

    def reset(self):
        self.resets += 1

    def __call__(self, image, camera=None, depth_m=None, stamp_s=None):
        assert image.dtype == np.uint8 and image.ndim == 3
        self.calls.append((image.shape, camera, stamp_s))
        if not image.any():
            return []
        height, width = image.shape[:2]
        camera = camera and camera.fitted_to(width, height)
        grid = np.array([[0.5, 0.9]] + [[0.2 + 0.15 * f, 0.6 - 0.1 * j] for f in range(5) for j in range(4)])
        pixels = grid * [width, height]
        hand = HandPose.from_keypoints(
            self.side,
            pixels,
            np.column_stack([grid, 0.05 * np.cos(np.arange(21))]),
            side_score=0.9,
            score=0.8,
            keypoint_scores=np.linspace(0.3, 1, 21),
            roi_px=(0.1 * width, 0.2 * height, 0.8 * width, 0.75 * height),
            track_id=int(self.tracking),
        )
        if camera is None:
            return [hand]
        metric = hand.keypoints_relative * 0.04 + [0, 0, 0.5]
        return [
            hand.replace(keypoints_m=metric, scale_source=ScaleSource.ASSUMED, scale_m=0.04, position_stddev_m=0.05)
        ]


@pytest.fixture
def fake_estimator(monkeypatch):
    """Puts the fake in the place of hand_pose_3d.estimator; returns its class, whose `made` lists the instances."""
    FakeEstimator.made = []
    module = ModuleType("hand_pose_3d.estimator")
    module.HandPoseEstimator = FakeEstimator
    monkeypatch.setitem(sys.modules, "hand_pose_3d.estimator", module)
    return FakeEstimator
