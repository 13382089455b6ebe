"""The parts of the node that need no ROS: stamps, names of hands, health, mailbox."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fake_estimator import make_hand
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.ros.diagnostics import ERROR, OK, STALE, WARN, Diagnosis, Health, Situation, parse, status_message
from hand_pose_3d.ros.inputs import StampGate
from hand_pose_3d.ros.mailbox import Mailbox
from hand_pose_3d.ros.messages import check_finite, quaternion
from hand_pose_3d.ros.network_swap import SwappableEstimator
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.ros.slots import HandSlots
from hand_pose_3d.skeleton import Side


@pytest.mark.parametrize(
    ("stamps", "verdicts"),
    [
        ([1.0, 1.1, 1.2], "new new new"),
        ([1.0, 1.0, 1.1], "new repeated new"),
        ([1.0, 1.2, 1.1, 1.3], "new new late new"),
        ([5.0, 5.1, 1.0, 1.1], "new new jumped new"),
        ([1.0, 1.5, 1.0, 1.1, 1.2], "new new late jumped new"),  # a short recording starts over
        ([None, None, 1.0, None, 0.9], "new new new new late"),
    ],
)
def test_stamps(stamps, verdicts):
    gate = StampGate()
    assert " ".join(gate.judge(stamp) for stamp in stamps) == verdicts


@given(st.lists(st.integers(0, 40), max_size=60))
def test_accepted_stamps_only_go_back_when_time_jumped(ticks):
    gate, last = StampGate(), None
    for tick in ticks:
        stamp = tick / 10
        verdict = gate.judge(stamp)
        if verdict == "new" and last is not None:
            assert stamp > last
        if verdict in ("new", "jumped"):
            last = stamp


def test_slots_stay_with_their_hands():
    slots = HandSlots()
    key = {name: ("", n + 1) for n, name in enumerate("abcd")}
    assert slots.assign([key["a"], key["b"]]) == [0, 1]
    assert slots.assign([key["b"], key["a"]]) == [1, 0]
    assert slots.assign([key["b"]]) == [1]
    assert slots.assign([key["c"], key["b"], key["d"]]) == [0, 1, 2]
    assert slots.assign([("", 0), ("", 0)]) == [0, 1]


def test_frame_names():
    slots = HandSlots()
    left, right, other = (make_hand(s, 0.3, track_id=k) for k, s in enumerate((Side.LEFT, Side.RIGHT, Side.LEFT), 1))
    assert slots.frame_names([left, right, other]) == ["hand_left", "hand_right", "hand_left_2"]
    assert slots.frame_names([other, right]) == ["hand_left_2", "hand_right"]


@given(st.lists(st.tuples(st.sampled_from("lr"), st.integers(0, 5)), max_size=8))
def test_slots_are_unique_within_a_group(keys):
    keys = [key for k, key in enumerate(keys) if key[1] == 0 or key not in keys[:k]]
    slots = HandSlots()
    for _ in range(2):
        taken = list(zip((group for group, _ in keys), slots.assign(keys), strict=True))
        assert len(set(taken)) == len(taken)


def test_quaternion_is_that_of_the_matrix():
    from scipy.spatial.transform import Rotation

    for rotation in Rotation.random(50, random_state=1):
        x, y, z, w = quaternion(rotation.as_matrix())
        assert w >= 0
        np.testing.assert_allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), rotation.as_matrix(), atol=1e-12)


@pytest.mark.parametrize("field", ["keypoints_px", "keypoints_relative", "keypoint_scores"])
def test_numbers_that_are_not_finite_are_not_published(field):
    hand = make_hand(Side.LEFT, 0.5)
    check_finite(hand)
    broken = getattr(hand, field).copy()
    broken[3] = np.nan
    with pytest.raises(InvalidInputError, match=field):
        check_finite(hand.replace(**{field: broken}))


def test_networks_that_are_no_longer_wanted_are_waited_for():
    """A thread that loads them when the interpreter ends would abort it."""
    made, go_on = [], threading.Event()

    def factory(parameters):
        made.append(parameters)
        if len(made) > 1:
            go_on.wait(20)
        return SimpleNamespace(warm_up=lambda: None, take_over=lambda other: None)

    networks, first = SwappableEstimator(factory), NodeParameters()
    networks.load(first)
    networks.exchange(first.changed(precision="bfloat16"))
    networks.exchange(first)
    assert not networks.loading and not networks.close(0.05)
    networks.unload()
    assert not networks.close(0.05)
    go_on.set()
    assert networks.close(20) and len(made) == 2


def test_networks_that_are_revoked_while_they_are_installed_do_not_stay():
    """Whichever comes first, what runs in the end is what was asked for last."""
    networks, first, asked = None, NodeParameters(), []

    def factory(parameters):
        def take_over(other):
            asker = threading.Thread(target=networks.exchange, args=(first,))
            asker.start()
            asker.join(0.2)  # it waits for the end of this exchange
            asked.append(asker)

        return SimpleNamespace(
            warm_up=lambda: None, take_over=take_over if not asked else lambda other: None, of=parameters
        )

    networks = SwappableEstimator(factory)
    networks.load(first)
    networks.exchange(first.changed(precision="bfloat16"))
    until = time.monotonic() + 20
    while not asked or asked[0].is_alive() or networks.loading:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert networks.estimator.of == first


def test_mailbox_keeps_the_newest():
    box: Mailbox[int] = Mailbox()
    assert [box.put(1), box.put(2), box.put(3)] == [False, True, True]
    assert box.take() == 3
    box.put(4)
    box.clear()
    taken = []
    reader = threading.Thread(target=lambda: taken.append(box.take()))
    reader.start()
    box.put(5)
    reader.join(5)
    assert taken == [5]
    box.close()
    assert box.take() is None


def health_after(*events, situation=None, now=11.0):
    health = Health(0.0)
    for name, *arguments in events:
        getattr(health, name)(*arguments)
    return health.report(now, situation or Situation(image_topic="/cam"))


ANSWER = ("answered", {"total": 5.0}, 1)
IMAGE = ("image_arrived", 10.5, 0.01)


@pytest.mark.parametrize(
    ("events", "situation", "level", "says"),
    [
        ([], Situation(state="inactive"), OK, "inactive"),
        ([], Situation(state="unconfigured", failure="no weights"), ERROR, "unconfigured: no weights"),
        ([], Situation(enabled=False), OK, "paused"),
        ([], Situation(image_topic="/cam"), WARN, "no image on /cam yet: nobody"),
        ([], Situation(publishers=1), WARN, "silent"),
        ([], Situation(qos_mismatch="QoS of /cam does not match"), WARN, "QoS"),
        ([IMAGE, ANSWER], None, OK, "tracking"),
        ([IMAGE, ("answered", {}, 0)], None, OK, "no hand"),
        ([("image_arrived", 1.0, None), ANSWER], None, STALE, "for 10.0 s"),
        ([("image_arrived", 1.0, None)], Situation(publishers=2, qos_mismatch="no such QoS"), STALE, "s: no such QoS"),
        ([("image_arrived", 1.0, None)], Situation(qos_mismatch="no such QoS"), STALE, "publisher is gone"),
        ([IMAGE, ("count", "failed", "boom")], None, ERROR, "boom"),
        ([IMAGE, ("count", "rejected_image", "bad step")], None, ERROR, "bad step"),
        ([IMAGE, ANSWER, ("count", "rejected_image", "bad step")], None, WARN, "bad step"),
        ([IMAGE, ANSWER, ("count", "rejected_depth", "too small")], None, WARN, "too small"),
        ([IMAGE, ANSWER, ("count", "failed_load", "no such weights")], None, WARN, "no such weights"),
        ([IMAGE] * 10 + [ANSWER] * 2, None, WARN, "2 of 10"),
        ([IMAGE, ANSWER] * 9 + [("count", "repeated")] * 2, Situation(publishers=1), OK, "tracking"),
        ([IMAGE, ANSWER] * 9, Situation(publishers=2, image_topic="/cam"), WARN, "2 publishers of images on /cam"),
        ([IMAGE, ANSWER] * 9 + [("count", "repeated")] * 4, Situation(publishers=1), WARN, "4 of 9 images"),
        ([IMAGE, ANSWER] * 9 + [("count", "jumped")] * 4, Situation(publishers=2), WARN, "there are 2 publishers"),
        ([("image_arrived", 10.5, -3600.0), ANSWER], None, WARN, "3600.0 s in the future"),
        ([("image_arrived", 10.4, -0.6)] + [IMAGE, ANSWER] * 9, None, OK, "tracking"),  # one of ten
        ([IMAGE] + [("count", "used_depth")] * 29 + [("count", "missing_depth", "lost")], None, OK, "no hand"),
        ([IMAGE] + [("count", "used_depth")] * 2 + [("count", "missing_depth", "lost")], None, WARN, "lost"),
        ([IMAGE, ("work_begins", 1.0)], None, ERROR, "no result for 10 s"),
        ([IMAGE, ANSWER], Situation(notes=("camera_info does not fit",)), WARN, "does not fit"),
    ],
)
def test_diagnosis(events, situation, level, says):
    got, sentence, _ = health_after(*events, situation=situation)
    assert got == level and says in sentence


def test_diagnosis_is_of_the_time_since_the_last_report():
    health = Health(0.0)
    health.image_arrived(0.5, 0.02)
    health.count("rejected_image", "bad step")
    assert health.report(1.0, Situation())[0] == ERROR
    health.image_arrived(1.5, 0.02)
    health.answered({"total": 4.0}, 0)
    level, _, values = health.report(2.0, Situation())
    assert level == OK and values["image messages rejected"] == "1"
    assert values["total p50 / p95 (ms)"] == "4.0 / 4.0" and values["image age on arrival (ms)"] == "20.0"


def test_a_slow_camera_keeps_its_diagnosis_between_two_images():
    health, told = Health(0.0), []
    for second in range(1, 9):
        if second % 2:
            health.image_arrived(second - 0.5, 0.02)
            health.count("rejected_image", "bad step")
        told.append(health.report(second, Situation())[0])
    assert told == [ERROR] * 8
    health.image_arrived(8.9, 0.02)
    assert health.report(9.0, Situation())[1] == "running, no hand in view"
    health.answered({"total": 4.0}, 1)  # of the image before
    assert [health.report(second, Situation())[1] for second in (9.5, 10.0)] == ["tracking hands"] * 2
    assert health.report(11.0, Situation())[0] == STALE
    health.restart(11.0)
    assert health.report(11.5, Situation())[1] == "waiting for the first image"


def test_diagnostics_can_be_read_back():
    from diagnostic_msgs.msg import DiagnosticArray

    health = Health(0.0)
    health.count("replaced")
    health.answered({"publishing": 0.5, "total": 4.0}, 1)
    situation = Situation(device="cpu", model="lite", metric="depth")
    entries = status_message("hand_pose_3d: hands", "", *health.report(1.0, situation))
    message = DiagnosticArray(status=[status_message("other: hands", "", 0, "", {}), entries])
    stages = {"publishing": (0.5, 0.5), "total": (4.0, 4.0)}
    assert parse(message, "/hand_pose_3d") == Diagnosis("active", "cpu", "lite", "depth", 1, stages)
    assert parse(message, "/hand_pose_3d_2") is None


def test_the_demo_takes_away_only_what_it_made(tmp_path):
    from hand_pose_3d.ros import demo, play

    def fill():
        (tmp_path / "recording").mkdir()
        for name in ("overlay.mp4", "overlay.png", "figures.txt", "recording/a.mcap"):
            (tmp_path / name).write_text(name)
        play.remember(tmp_path, [tmp_path / name for name in demo.RESULTS])

    fill()
    (tmp_path / "notes.txt").write_text("mine")
    play.prepare(tmp_path, ["", "/dev/video0"], demo.RESULTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hand_pose_3d_demo.json", "notes.txt"]
    for spoil in ("recording/notes.txt", "overlay.mp4"):  # a new file, and one that was changed
        if not (tmp_path / "overlay.mp4").exists():
            fill()
        (tmp_path / spoil).write_text("the user's own")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(HandPoseError, match=spoil):
            play.prepare(tmp_path, [], demo.RESULTS)
        assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "overlay.mp4").unlink()
    (tmp_path / "recording" / "notes.txt").unlink()
    with pytest.raises(HandPoseError, match="input"):
        play.prepare(tmp_path, [str(tmp_path / "overlay.png")], demo.RESULTS)
    assert play.as_parameter("caf\udce9.png").endswith("/caf%E9.png") and play.as_parameter("0") == "0"


@pytest.mark.parametrize(
    ("shape", "longest", "now"),
    [((3000, 4000), 1280, (960, 1280)), ((4, 9000), 9, (1, 9))],
)
def test_large_pictures_of_files_are_shrunk_as_a_whole(shape, longest, now):
    pytest.importorskip("rclpy")
    from hand_pose_3d.ros.image_source import shrink

    assert shrink(np.zeros((*shape, 3), np.uint8), longest).shape == (*now, 3)
