"""A light estimator whose answer is known, and the node that runs it: `python fake_estimator.py --ros-args ...`.

The image's mean says what it sees: below 20 no hand, above 200 a left and a right hand, else a right hand. The hand
moves to the right with the image's mean, so that an answer tells which image it belongs to.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hand_pose_3d import geometry
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.placement import REFERENCE_LENGTH_M, reference_units
from hand_pose_3d.skeleton import Side


def open_hand(side: Side) -> np.ndarray:
    """Keypoints (21, 3) of a flat open hand in units of the index finger's first bone, fingers up, wrist at zero."""
    hand = np.zeros((21, 3))
    across = (-1.0, -0.6, -0.1, 0.35, 0.8)
    for finger, x in enumerate(across):
        base = np.array([x, -1.2 if finger == 0 else -2.3 + 0.25 * abs(finger - 2), 0.0])
        direction = np.array([-0.7 if finger == 0 else 0.12 * (finger - 2), -1.0, 0.1 * finger])
        direction /= np.linalg.norm(direction)
        for joint in range(4):
            hand[1 + 4 * finger + joint] = base + joint * direction
    hand[20] = hand[19] + [0.0, -0.6, -0.8]  # farther back than a finger bends
    # Seen from its back, a right hand has its thumb on the left.
    return hand if side == Side.RIGHT else hand * [-1, 1, 1]


SCALE_M = REFERENCE_LENGTH_M / reference_units(geometry.normalise(open_hand(Side.RIGHT))[0])
"""Metres per unit of a hand, for the default reference length; others change it in proportion."""


def make_hand(side: Side, shift: float, camera=None, depth_m=None, track_id: int = 1, settings=None) -> HandPose:
    """A turned open hand; placed half a metre away (or where depth says) when there is a camera."""
    config = EstimatorConfig(**(settings or {}))
    length = config.reference_length / REFERENCE_LENGTH_M
    depth_m = depth_m if config.uses_depth else None
    rotation = Rotation.from_euler("xyz", [0.3, -0.4 + shift, 0.2]).as_matrix()
    relative, _ = geometry.normalise(open_hand(side) @ rotation.T)
    distance = 0.5 if depth_m is None else float(np.nanmedian(depth_m))
    placed = length * (relative * SCALE_M + [0.2 * shift - 0.1, 0.02, distance])
    metric = {}
    source = config.reference_source if depth_m is None else ScaleSource.DEPTH
    if camera is not None and config.scale_source in ("auto", source.label):
        metric = {"keypoints_m": placed, "scale_m": length * SCALE_M, "scale_source": source, "position_stddev_m": 0.03}
    pixels = placed[:, :2] / placed[:, 2:] * 500 + [320, 240]
    scores = {"side_score": 0.9, "score": 0.8, "keypoint_scores": np.linspace(0.3, 1.0, 21)}
    return HandPose.from_keypoints(side, pixels, relative, track_id=track_id, **scores, **metric)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class FakeEstimator:
    """Stands in for HandPoseEstimator."""

    def __init__(self, device: str = "cpu", delay_s: float = 0.0, model: str = "fake") -> None:
        self.model = model
        self.settings: dict = {}
        self.device = "cuda" if device == "auto" else device
        self.delay_s, self.timings_ms, self.calls = delay_s, {"fake stage": 1.0}, 0

    def __call__(self, image, camera=None, depth_m=None, stamp_s=None) -> list[HandPose]:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        self.calls += 1
        time.sleep(self.delay_s)
        mean = float(image.mean())
        if mean < 20:
            return []
        if mean == 150 and self.device == "cuda":
            raise OutOfMemoryError("CUDA out of memory")
        if 249 < mean:
            raise RuntimeError("white is too much")
        hands = [make_hand(Side.RIGHT, mean / 255, camera, depth_m, settings=self.settings)]
        if mean > 200:
            hands.append(make_hand(Side.LEFT, mean / 255, camera, depth_m, track_id=2, settings=self.settings))
        return hands

    def reset(self) -> None:
        pass

    def warm_up(self) -> None:
        pass

    def take_over(self, other) -> None:
        pass

    def configure(self, **settings) -> None:
        self.settings = settings


def build(parameters) -> FakeEstimator:
    """The fake for a node's parameters; files in its folder of weights say how that loads."""
    if not parameters.weights:
        made = FakeEstimator(parameters.device, delay_s=0.001)
        made.keypoints = "fast" if parameters.tracking else "thorough"
        return made
    folder = Path(parameters.weights)
    while (folder / "slow").exists():
        time.sleep(0.02)
    if (folder / "bad").exists():
        raise WeightsError("there are no fake weights in that folder")
    return FakeEstimator(parameters.device, delay_s=0.001, model="other")


if __name__ == "__main__":
    from hand_pose_3d.ros.node import main

    raise SystemExit(main(sys.argv[1:], build))
