"""What the shipped networks say of positions on renders, against the truth."""

import numpy as np
import pytest

from hand_pose_3d import HandPoseEstimator
from hand_pose_3d.datasets.rhd import read_rhd
from hand_pose_3d.evaluation import matching, protocols
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.rendering.dataset import RenderOptions, render_dataset


@pytest.fixture(scope="module")
def matches(maker, tmp_path_factory):
    out = tmp_path_factory.mktemp("metres")
    render_dataset(RenderOptions(out, 120, split="evaluation", seed=41, workers=2), progress=False)
    return matching.run(HandPoseEstimator(device="cpu", score_threshold=0.3), read_rhd(out))


@pytest.mark.parametrize("source", [ScaleSource.ASSUMED, ScaleSource.CALIBRATED, ScaleSource.DEPTH])
def test_the_wrist_lies_within_twice_the_stated_deviation(matches, source):
    distance, error, stddev = protocols.wrist_errors_m(matches, source).T
    assert len(distance) > 30
    assert np.mean(error < 2 * stddev) > 0.8  # in the model card, of many, 0.99, with depth 0.9
    assert np.median(stddev / distance) < 0.25  # not by being vague: hands alone differ by 0.15
