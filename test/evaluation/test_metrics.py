"""Metrics against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.metrics import auc, box_iou, box_of, epe, hand_size, pck, summarise


def test_epe_is_euclidean_and_hides_what_is_not_visible():
    errors = epe(np.zeros((1, 2, 2)), np.array([[[3.0, 4.0], [1.0, 0.0]]]), np.array([[True, False]]))
    assert errors[0, 0] == 5 and np.isnan(errors[0, 1])


def test_pck_counts_errors_up_to_the_threshold():
    curve = pck(np.array([[1.0, np.nan], [2.0, np.nan], [np.inf, np.nan]]), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(curve[0], [0, 1 / 3, 2 / 3])
    assert np.isnan(curve[1]).all()


def test_auc_of_a_ramp_is_half_and_of_perfection_one():
    x = np.linspace(0, 30, 20)
    assert auc(x, x / 30) == pytest.approx(0.5)
    assert auc(x, np.ones(20)) == pytest.approx(1)
    with pytest.raises(InvalidInputError):
        auc(np.array([1.0]), np.array([1.0]))


def test_summary_averages_over_keypoints_not_over_samples():
    # Keypoint 0 has three samples (1, 2, 9), keypoint 1 a single one (20), keypoint 2 none.
    errors = np.array([[1.0, 20.0, np.nan], [2.0, np.nan, np.nan], [9.0, np.nan, np.nan]])
    summary = summarise(errors, 30.0)
    assert summary.mean == pytest.approx((4 + 20) / 2)
    assert summary.median == pytest.approx((2 + 20) / 2)
    assert summary.pooled_mean == pytest.approx(8)
    assert summary.pooled_median == pytest.approx(5.5)
    assert summary.count == 4
    assert len(summary.thresholds) == 20 and summary.thresholds[-1] == 30
    # One keypoint correct from the second threshold (1.58) on for 1 of 3 samples ...
    assert summary.curve[1] == pytest.approx((1 / 3 + 0) / 2)
    assert summary.curve[-1] == 1


def test_misses_make_the_mean_infinite_but_not_the_median():
    summary = summarise(np.array([[1.0], [1.0], [np.inf]]), 30.0)
    assert np.isinf(summary.mean) and summary.median == 1 and summary.curve[-1] == pytest.approx(2 / 3)
    assert summary.to_dict()["mean"] is None


def test_nothing_visible_is_an_error():
    with pytest.raises(InvalidInputError, match="no visible"):
        summarise(np.full((3, 21), np.nan), 30.0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_curves_rise_and_areas_are_shares(values):
    summary = summarise(np.array(values)[:, None], 50.0)
    assert np.all(np.diff(summary.curve) >= 0)
    assert 0 <= summary.auc <= 1


def test_boxes():
    box = box_of(np.array([[1.0, 2.0], [5.0, 12.0], [np.nan, 0.0]]))
    np.testing.assert_array_equal(box, [1, 2, 4, 10])
    assert hand_size(np.array([[1.0, 2.0], [5.0, 12.0]])) == 10
    assert box_iou(box, box) == 1
    assert box_iou(box, box + np.array([10, 0, 0, 0])) == 0
    assert box_iou(np.array([0, 0, 2, 2.0]), np.array([1, 0, 2, 2.0])) == pytest.approx(1 / 3)
    assert box_iou(np.zeros(4), np.zeros(4)) == 0
