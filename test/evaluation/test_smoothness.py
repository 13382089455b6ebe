"""The measure of jitter and lag, on motion whose jitter and lag are known."""

import numpy as np
import pytest

from hand_pose_3d.evaluation.smoothness import Noise, jitter, jitter_and_lag, lag_s, plot, simulate, still, waving
from hand_pose_3d.smoothing import SmoothingConfig

QUIET = Noise(0, 0, 0)


def test_lag_and_jitter_of_known_signals():
    t = np.arange(300) / 30
    late = np.sin(2 * np.pi * (t - 0.04)) * 3 + 7
    assert lag_s(np.sin(2 * np.pi * t), late, t, 1.0) == pytest.approx(0.04, abs=1e-3)
    values = np.random.default_rng(0).normal(5, 0.5, (3000, 21, 2))
    assert jitter(values) == pytest.approx(0.5 * np.sqrt(2), rel=0.02)


def test_without_noise_the_placed_hand_is_the_truth():
    track = simulate(waving(1.0), SmoothingConfig(enabled=False), QUIET, seconds=1.0)
    np.testing.assert_allclose(track.smooth_m, track.raw_m)
    np.testing.assert_allclose(track.raw_m, track.truth_m, atol=1e-6)
    assert jitter(simulate(still, None, QUIET, seconds=1.0).smooth_m) < 1e-9


def test_smoothing_about_halves_the_jitter_at_a_frame_of_lag():
    found = jitter_and_lag()  # half of the noise is that of the frame before, which no filter takes for noise
    assert found["jitter smooth [px]"] < 0.6 * found["jitter raw [px]"]
    assert found["jitter smooth [mm]"] < 0.55 * found["jitter raw [mm]"]
    for frequency in ("0.5", "1", "2"):
        assert 0 < found[f"lag at {frequency} Hz, sideways [ms]"] < 34
    assert found["lag at 1 Hz, in distance [ms]"] < 67


def test_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    plot(tmp_path / "s.png", trade=False)
    assert (tmp_path / "s.png").stat().st_size > 20_000
