"""Topics for rerun: messages become the records that they were made of, live and from a recording."""

from __future__ import annotations

import os
import random
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from fake_estimator import make_hand
from media import damaged

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.ros import rerun_view
from hand_pose_3d.ros.messages import hand_from_message, hand_message
from hand_pose_3d.ros.rerun_view import TopicView, main, recorded
from hand_pose_3d.skeleton import Side


class View:
    """Keeps what it is shown."""

    def __init__(self):
        self.shown = []

    def image(self, image_rgb, stamp_s):
        self.shown.append((stamp_s, image_rgb.shape, image_rgb.mean()))

    def hands(self, hands, stamp_s):
        self.shown.append((stamp_s, hands))


def header(seconds):
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    return Header(stamp=Time(sec=seconds), frame_id="camera_optical")


@pytest.mark.parametrize("camera", [None, Camera(60, 60, 31.5, 23.5)])
def test_a_message_gives_back_its_hand(camera):
    hand = make_hand(Side.LEFT, 0.3, camera, track_id=9)
    back = hand_from_message(hand_message(hand, header(1), (480, 640)))
    assert (back.side, back.track_id, back.scale_source) == (hand.side, hand.track_id, hand.scale_source)
    for name in ("keypoints_px", "keypoints_relative", "keypoints_canonical", "rotation_camera_canonical"):
        np.testing.assert_allclose(getattr(back, name), getattr(hand, name), atol=1e-9)
    assert (back.keypoints_m is None) == (camera is None)
    if camera is not None:
        np.testing.assert_allclose(back.keypoints_m, hand.keypoints_m)
        np.testing.assert_allclose([back.scale_m, back.position_stddev_m], [hand.scale_m, 0.03], rtol=1e-6)


@pytest.fixture
def recording(tmp_path):
    """A recording of an image and its hands, one damaged image, and something else."""
    pytest.importorskip("rosbags")
    from hand_pose_3d.msg import HandPose3DArray
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from hand_pose_3d.ros.recording import Recorder

    image = Image(header=header(5), height=2, width=4, encoding="rgb8", step=12, data=bytes([90]) * 24)
    damaged = Image(header=header(6), height=2, width=4, encoding="rgb8", step=12, data=b"")
    hands = [hand_message(make_hand(Side.RIGHT, 0.3, track_id=4), header(5), (2, 4))]
    recorder = Recorder(tmp_path / "recording")
    for k, message in enumerate((image, HandPose3DArray(header=header(5), hands=hands), damaged)):
        topic, kind = ("/image", "sensor_msgs/msg/Image")
        if isinstance(message, HandPose3DArray):
            topic, kind = "/hand_pose_3d/hands", "hand_pose_3d/msg/HandPose3DArray"
        recorder.write(topic, kind, serialize_message(message), 10**9 * (k + 5))
    recorder.close()
    return tmp_path / "recording"


def test_a_recording_is_shown_in_its_order(recording, capsys):
    view = View()
    topics = TopicView(view)
    for message in recorded(recording, ("/image", "/hand_pose_3d/hands")):
        topics.show(message)
    (image_s, shape, mean), (hands_s, hands) = view.shown
    assert (image_s, shape, mean, hands_s) == (5.0, (2, 4, 3), 90, 5.0)
    assert [hand.track_id for hand in hands] == [4]
    np.testing.assert_allclose(hands[0].keypoints_px, make_hand(Side.RIGHT, 0.3).keypoints_px)
    assert "left out: image data has" in capsys.readouterr().err


def test_a_damaged_recording_is_shown_or_refused_in_a_sentence(recording, capsys):
    rng, shown = random.Random(23), 0
    file = recording / "recording.mcap"
    data = file.read_bytes()
    for number in range(int(os.environ.get("FUZZ_CASES", 1000))):
        file.write_bytes(damaged(data, rng))
        view = View()
        topics, start = TopicView(view), time.monotonic()
        try:
            for message in recorded(rng.choice((recording, file)), ("/image", "/hand_pose_3d/hands")):
                topics.show(message)
        except HandPoseError as error:
            assert len(str(error).splitlines()) == 1, number
        shown += len(view.shown)
        assert "Traceback" not in capsys.readouterr().err and time.monotonic() - start < 20, number
    assert shown > 10


def test_what_cannot_be_shown_is_said_in_a_sentence(recording, tmp_path, capsys):
    with pytest.raises(HandPoseError, match="it has /hand_pose_3d/hands, /image"):
        list(recorded(recording, ("/elsewhere",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(HandPoseError, match="cannot read"):
        list(recorded(tmp_path / "empty", ("/image",)))
    assert main(["--bag", str(tmp_path / "nothing")]) == 1
    assert "there is no recording" in capsys.readouterr().err


def test_no_file_but_an_earlier_recording_of_its_own_is_written_over(recording, tmp_path, capsys, monkeypatch):
    class Saved(View):
        def __init__(self, save):
            super().__init__()
            save.parent.mkdir(parents=True, exist_ok=True)
            save.write_bytes(b"RRF2")

    monkeypatch.setattr(rerun_view, "RerunView", Saved)
    photograph = tmp_path / "holiday.jpg"
    photograph.write_bytes(b"theirs")
    for target in (photograph, *(path for path in recording.rglob("*") if path.is_file())):
        before = target.read_bytes()
        assert main(["--bag", str(recording), "--save", str(target)]) == 1
        assert target.read_bytes() == before and str(target.name) in capsys.readouterr().err
    earlier = tmp_path / "new" / "hands.rrd"
    assert main(["--bag", str(recording), "--save", str(earlier)]) == 0
    before = earlier.read_bytes()
    (tmp_path / "empty").mkdir()
    assert before[:3] == b"RRF" and main(["--bag", str(tmp_path / "empty"), "--save", str(earlier)]) == 1
    assert earlier.read_bytes() == before and "cannot read" in capsys.readouterr().err
    assert main(["--bag", str(recording), "--save", str(tmp_path)]) == 1
    assert "it is a folder" in capsys.readouterr().err
