"""Latency between processes: the figures from known stamps, and one run of the real source through a light node."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from hand_pose_3d.ros.latency import latencies

HERE = Path(__file__).resolve().parent


def test_figures_of_known_stamps():
    published = [k * 100_000_000 for k in range(31)]
    answered = {stamp: stamp + 20_000_000 for stamp in published if stamp != 2_000_000_000}
    row = latencies(published, answered, warm_up_s=1.0)
    assert (row["published"], row["answered"], row["dropped"]) == (21, 20, 1)
    assert row["measured_rate_hz"] == pytest.approx(10.0)
    assert [row[key] for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")] == pytest.approx([20.0] * 4)


def test_no_answer_has_no_latency():
    row = latencies([0, 2_000_000_000], {})
    assert row["dropped"] == 1 and row["p50_ms"] is None
    assert latencies([], {})["published"] == 0


def test_one_run_between_processes():
    program = "import sys; from hand_pose_3d.ros.latency import main; "
    program += f"sys.exit(main(sys.argv[1:], ({str(HERE / 'fake_estimator.py')!r},)))"
    arguments = ["--rate", "10", "--size", "320x240", "--seconds", "4", "--precision", "float32"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=240, cwd=HERE.parents[1]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["width"], row["height"], row["rate_hz"], row["precision"]) == (320, 240, 10.0, "float32")
    assert row["answered"] > 0 and 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert 0 < row["node_rss_early_mb"] < 1.5 * row["node_rss_mb"]
    assert row["with_hand"] > 0 and row["node_ready_s"] > 0 and "publishing" in row["stages"]
