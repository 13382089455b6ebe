"""What the benchmark does with times: percentiles, order, stages, frames; clocks and estimators are made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.evaluation.benchmark.frames import noise, read_clip, resized, tiled
from hand_pose_3d.evaluation.benchmark.machine import describe_machine
from hand_pose_3d.evaluation.benchmark.process import measure_help, memory_mb
from hand_pose_3d.evaluation.benchmark.timing import Contender, Plan, Setting, measure, summary


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Worker:
    """Takes a given time a call; reports its stages as estimators do; writes its name into a log."""

    def __init__(self, name, clock, milliseconds, log, stages=None):
        self.name, self.clock, self.milliseconds, self.log = name, clock, list(milliseconds), log
        self.calls, self.resets = 0, 0
        if stages is not None:
            self.timings_ms = stages

    def reset(self):
        self.resets += 1
        self.calls = 0

    def __call__(self, image, camera=None, depth_m=None, stamp_s=None):
        self.clock.now += 1e-3 * self.milliseconds[self.calls % len(self.milliseconds)]
        self.calls += 1
        self.log.append((self.name, stamp_s))
        return ["hand"]


def setting(name, mode="detect"):
    return Setting(name, "torch", "float32", "cpu", mode, "fast")


FRAMES = [np.zeros((48, 64, 3), np.uint8)] * 10


def test_summary_of_known_times():
    row = summary([10.0] * 94 + [20.0] * 5 + [100.0])
    assert (row["p50_ms"], row["frames"]) == (10.0, 100)
    assert row["p95_ms"] == pytest.approx(20.0)
    assert 20.0 < row["p99_ms"] <= 100.0
    assert row["fps"] == pytest.approx(1e3 / 11.4)


def test_a_row_tells_its_setting():
    clock = Clock()
    contender = Contender(setting("lite", "track"), Worker("a", clock, [1.0], []))
    (row,) = measure([contender], FRAMES, Plan(rounds=1, warm_up=0), clock=clock)
    assert Setting.of({**row, "input": "clip"}) == contender.setting


def test_no_time_has_no_rate():
    assert summary([0.0, 0.0])["fps"] is None


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), st.floats(0.1, 10))
def test_percentiles_are_ordered_and_scale_with_time(times, factor):
    row, slower = summary(times), summary([factor * t for t in times])
    assert min(times) <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= max(times)
    for key in ("p50_ms", "p95_ms", "p99_ms", "mean_ms"):
        assert slower[key] == pytest.approx(factor * row[key])


def test_rows_hold_stages_and_what_they_leave_over():
    clock, log = Clock(), []
    worker = Worker("a", clock, [9.0], log, {"detection": 5.0, "keypoints": 3.0})
    plan, contender = Plan(rounds=2, warm_up=0), Contender(setting("lite", "track"), worker)
    rows = measure([contender], FRAMES, plan, clock=clock, cpu_clock=lambda: 2 * clock())
    assert [row.get("cpu_ms") for row in rows] == [pytest.approx(18.0), None, None, None]
    assert {row["stage"]: row["mean_ms"] for row in rows} == pytest.approx(
        {"end_to_end": 9.0, "detection": 5.0, "keypoints": 3.0, "other": 1.0}
    )
    for row in rows:
        assert (row["family"], row["mode"], row["width"], row["height"], row["hands"]) == ("lite", "track", 64, 48, 1.0)


def test_order_turns_and_everyone_sees_all_frames_in_time():
    clock, log = Clock(), []
    contenders = [Contender(setting(name), Worker(name, clock, [1.0], log)) for name in "abc"]
    measure(contenders, FRAMES, Plan(rounds=2, warm_up=0, rate_hz=20.0), clock=clock)
    assert [name for name, _ in log[::10]] == ["a", "b", "c", "c", "b", "a"]
    assert [stamp for _, stamp in log[:10]] == pytest.approx([i / 20 for i in range(10)])


def test_warm_up_does_not_count_and_ends_with_a_reset():
    clock, log = Clock(), []

    class Cold(Worker):
        def __call__(self, *arguments, **keywords):
            clock.now += 0.0 if self.resets else 1.0
            return super().__call__(*arguments, **keywords)

    cold = Cold("a", clock, [2.0], log)
    (row,) = measure([Contender(setting("a"), cold)], FRAMES, Plan(rounds=1, warm_up=3), clock=clock)
    assert row["p99_ms"] == pytest.approx(2.0) and row["frames"] == 10
    assert len(log) == 13 and cold.resets == 1


def test_a_slow_pass_ends_early_but_not_before_five_frames():
    clock, log = Clock(), []
    contender = Contender(setting("a"), Worker("a", clock, [1000.0], log))
    (row,) = measure([contender], FRAMES, Plan(rounds=1, warm_up=0, limit_s=2.0), clock=clock)
    assert row["frames"] == 5
    (row,) = measure([contender], FRAMES, Plan(rounds=1, warm_up=0, limit_s=6.5), clock=clock)
    assert row["frames"] == 7


def test_clip_is_read_with_its_camera(tmp_path):
    clip = read_clip(4)
    assert clip is not None and len(clip.frames) == 4 and len(clip.decode_ms) == 3
    assert clip.frames[0].shape == (clip.camera.height, clip.camera.width, 3)
    assert read_clip(4, tmp_path / "absent.mp4") is None


def test_noise_is_the_same_every_time():
    a, b = noise(20, (64, 48)), noise(20, (64, 48))
    assert len(a.frames) == 20 and a.frames[0].shape == (48, 64, 3)
    assert all(np.array_equal(x, y) for x, y in zip(a.frames, b.frames))
    assert not np.array_equal(a.frames[0], a.frames[1])


def test_camera_of_a_resized_image_sees_the_same():
    clip = noise(1, (64, 48))
    larger = resized(clip, (128, 144))
    assert larger.frames[0].shape == (144, 128, 3)
    point = np.array([0.1, -0.2, 2.0])
    # Pixel centres: (u + 0.5) grows with the image.
    expected = (clip.camera.project(point) + 0.5) * [2, 3] - 0.5
    assert larger.camera.project(point) == pytest.approx(expected)
    assert larger.camera.scaled(1 / 2, 1 / 3) == clip.camera


def test_tiles_show_as_many_pictures_as_asked_for():
    frames = [np.full((48, 64, 3), 10 + i, np.uint8) for i in range(8)]
    assert [frame[0, 0, 0] for frame in tiled(frames, 1)] == [10 + i for i in range(8)]
    for hands in (2, 3, 4):
        images = tiled(frames, hands)
        assert len(images) == 8 and images[0].shape == (48, 64, 3)
        shown = {int(images[0][y, x, 0]) for y in (0, 47) for x in (0, 63)} - {114}
        assert len(shown) == hands


def test_machine_and_memory_are_described():
    machine = describe_machine()
    assert machine["cores"] >= 1 and machine["versions"]["numpy"] == np.__version__
    memory = memory_mb()
    assert memory["rss_mb"] is None or 10 < memory["rss_mb"] <= memory["peak_mb"]
    assert memory_mb(2**30) == {"rss_mb": None, "peak_mb": None}


def test_help_is_run_in_processes_and_the_median_taken():
    ticks = iter([0, 1, 10, 13, 20, 22])
    assert measure_help(("-c", "pass"), 3, clock=lambda: next(ticks)) == 2
