"""Metrics of tracking, on sightings whose jitter, lag, delays and switches are known."""

from pathlib import Path

import numpy as np
import pytest

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sequence import Sequence, SequenceHand
from hand_pose_3d.evaluation.plots import plot_sequences
from hand_pose_3d.evaluation.report import sequences as report
from hand_pose_3d.evaluation.sequences import follow, lag_of, metrics
from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.hands import HandPose
from hand_pose_3d.outputs import VideoWriter
from hand_pose_3d.skeleton import Side

FPS = 30
CAMERA = Camera(300, 300, 159.5, 119.5, 320, 240)
GRID = np.array([[0.5, 0.9]] + [[0.2 + 0.15 * f, 0.6 - 0.1 * j] for f in range(5) for j in range(4)])
RELATIVE = normalise(np.column_stack([GRID, 0.05 * np.cos(np.arange(21))]))[0]
CANONICAL, ROTATION = to_canonical(RELATIVE)


def label(x, size=60.0, side=Side.LEFT, **fields):
    points = GRID * size + [x, 80]
    box = np.concatenate([points.min(0), np.ptp(points, axis=0)])
    return SequenceHand(fields.pop("identity", 1), side, box, points, None, **fields)


def seen(points, track_id=1, side=Side.LEFT):
    low, high = points.min(0), points.max(0)
    return HandPose(
        side=side,
        side_score=0.9,
        score=0.95,
        keypoints_px=points,
        keypoint_scores=np.ones(21),
        keypoints_relative=RELATIVE,
        keypoints_canonical=CANONICAL,
        rotation_camera_canonical=ROTATION,
        roi_px=(*low, *(high - low)),
        track_id=track_id,
        keypoints_m=RELATIVE * 0.03 + [0, 0, 0.5],
    )


class Tracker:
    """Reports what it is told for each frame."""

    def __init__(self, hands, fps, camera):
        self.hands, self.fps, self.camera, self.resets = hands, fps, camera, 0

    def reset(self):
        self.resets += 1

    def __call__(self, image, *, camera=None, stamp_s=None):
        assert camera == self.camera
        return self.hands[round(stamp_s * self.fps)]


def measure(tmp_path, labels, hands, fps=FPS, camera=CAMERA):
    video = VideoWriter(tmp_path / "v.mp4", fps)
    for index in range(len(labels)):
        video.add(np.zeros((240, 320, 3), np.uint8), index / fps)
    sequence = Sequence(Path(video.close()), fps, camera, tuple(tuple(frame) for frame in labels))
    tracker = Tracker(hands, fps, camera)
    found = follow(tracker, sequence)
    assert tracker.resets == 1
    return metrics([sequence], [found])


def test_lag_of_a_delayed_signal():
    t = np.arange(60) / FPS
    path = lambda s: np.stack([np.sin(5 * s), np.cos(3 * s)], axis=1)  # noqa: E731
    assert lag_of(path(t), t, 2 * path(t - 0.05) + 9, t) == pytest.approx(0.05, abs=0.005)
    assert lag_of(path(t), t, path(t + 0.03), t) == pytest.approx(-0.03, abs=0.005)
    assert lag_of(path(t[:9]), t[:9], path(t[:9]), t[:9]) is None
    for other in (0 * path(t), -path(t)):  # what stands still, or moves the other way, has no lag
        assert lag_of(path(t), t, other, t) is None


def test_jitter_of_a_still_hand_and_lag_of_a_moving_one(tmp_path):
    rng = np.random.default_rng(0)
    x = np.where(np.arange(120) < 60, 60.0, 60 + 50 * np.sin(2 * np.pi * (np.arange(120) / FPS - 2)))
    late = np.concatenate([x[:1], x[:-1]])  # one frame
    labels = [[label(value)] for value in x]
    hands = [[seen(label(value).keypoints_px + rng.normal(0, 0.6, (21, 2)) * (i < 60))] for i, value in enumerate(late)]
    found = measure(tmp_path, labels, hands)
    (still,) = found["jitter"]
    assert still["raw_px"] == pytest.approx(0.6 * np.sqrt(2), rel=0.1)
    assert still["smooth_px"] < 0.6 * still["raw_px"] and still["raw_mm"] == pytest.approx(0, abs=1e-9)
    assert found["noise"]["pixels"] == pytest.approx(0.6 / still["size_px"], rel=0.1)
    assert found["noise"]["pose"] == pytest.approx(0, abs=1e-9) and abs(found["noise"]["correlation"]) < 0.1
    (moving,) = found["lag_s"]
    assert moving["raw"] == pytest.approx(1 / FPS, abs=0.004) and moving["smooth"] > moving["raw"]
    assert found["recall"] == {"share": 1.0, "count": 120, "of": 120} and found["precision"]["share"] == 1.0


def test_false_hands_without_identity_are_told_apart_by_their_place(tmp_path):
    first, second = (seen(label(x, 60.0).keypoints_px, 0) for x in (60.0, 250.0))
    hands = [[]] * 3 + [[first]] * 2 + [[first, second]] * 2 + [[second]] + [[]] * 32
    found = measure(tmp_path, [[]] * 40, hands)
    assert found["false_hands"] == {"times": 2, "on_no_hand": 2, "frames": 5}


def test_delays_switches_and_false_hands(tmp_path):
    near, small = label(20.0), label(200.0, 20.0, Side.RIGHT, identity=2)
    labels = [[]] * 10 + [[near, small]] * 50
    wrong = seen(label(250.0, 60.0).keypoints_px, 9)
    hands = []
    for index in range(60):
        frame = []
        if index >= 16:  # six frames after it came; then another identity, then another side
            side = Side.RIGHT if 40 <= index < 45 else Side.LEFT
            frame.append(seen(near.keypoints_px, 1 if index < 30 else 2, side))
        if index in (3, 4, 20):
            frame.append(wrong)
        hands.append(frame)
    found = measure(tmp_path, labels, hands)
    assert [(e["small"], e["seconds"]) for e in found["until_followed_s"]] == [(False, 0.2), (True, None)]
    assert (found["identity_switches"], found["side_switches"]) == (1, 2)
    assert found["side"] == {"share": 39 / 44, "count": 39, "of": 44}
    assert found["false_hands"] == {"times": 2, "on_no_hand": 2, "frames": 3}
    assert found["recall"] == {"share": 0.44, "count": 44, "of": 100}
    assert found["precision"] == {"share": 44 / 47, "count": 44, "of": 47}
    text = report({"ours": found}).text()
    rows = {line.strip().split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines()}
    assert rows["false hands a minute"] == "60.0 (2)" and rows["followed within 0.5 s, all"] == "50.0% (1/2)"
    assert rows["small hands, under 7.5 %"] == "0.0% (0/1)"


def test_hands_that_need_not_be_found_do_not_count(tmp_path):
    hand = label(20.0, ignore=True)
    found = measure(tmp_path, [[hand]] * 30, [[seen(hand.keypoints_px)]] * 30)
    assert found["recall"]["of"] == 0 and found["precision"]["of"] == 0 and not found["until_followed_s"]
    assert report({"ours": found}).text()


@pytest.mark.parametrize("fps", [1.0, 2.0, 3.0])
def test_slow_videos_are_measured(tmp_path, fps):
    hand = label(20.0)
    found = measure(tmp_path, [[hand], [hand], []], [[seen(hand.keypoints_px)]] * 2 + [[]], fps)
    assert found["recall"]["share"] == 1.0 and found["hands"] == 1


def test_sizes_are_shares_of_the_picture_whatever_size_the_camera_names(tmp_path):
    hand = label(200.0, 20.0)
    sizes = []
    for number, factor in enumerate((1, 2)):
        camera = CAMERA.scaled(factor, factor)
        (tmp_path / str(number)).mkdir()
        found = measure(tmp_path / str(number), [[hand]] * 20, [[seen(hand.keypoints_px)]] * 20, camera=camera)
        sizes += [entry["size"] for entry in found["until_followed_s"]]
    assert sizes[0] == sizes[1] == pytest.approx(hand.box_px[2:].max() / 320)


def test_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    labels = [[label(20.0)]] * 40
    found = measure(tmp_path, labels, [[seen(labels[0][0].keypoints_px)]] * 40)
    plot_sequences(tmp_path / "p.png", {"ours": found, "peer": found}, "title")
    assert (tmp_path / "p.png").stat().st_size > 10_000
